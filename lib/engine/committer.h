// Makes things durable, in rounds: everybody who asks while a round runs shares the next one (I3).
// Nobody else writes metadata, so that no two superblock writes ever meet.
//
// A round is a commit of the metadata when a user's write depends on it, else a flush of the
// destination alone: the states of merely copied blocks stay volatile until the next periodic
// commit (lazy copy bits). The first failure is final (I10): every later round fails until the
// admin acts.
//
// Thread: one scheduler.
#pragma once

#include <functional>
#include <memory>

#include "io/block_device.h"
#include "io/event.h"
#include "metadata/metadata_store.h"

namespace clonedev {

class Committer {
 public:
  // `on_failure` hears of the first failure, once.
  Committer(MetadataStore& metadata, BlockDevice& destination,
            std::function<void(const Error&)> on_failure);

  // Returns when everything that had ended before the call is durable.
  Task<Result<>> flush() { return join(Goal::data); }
  // The same, and every state is durable too.
  Task<Result<>> commit() { return join(Goal::states); }
  // The same, and the superblock says that the clone is complete.
  Task<Result<>> complete() { return join(Goal::completion); }
  // The same, and the disk is larger, durably and in core (MetadataStore::grow()).
  Task<Result<>> grow(std::uint64_t size_bytes) { return join(Goal::states, size_bytes); }
  // Forgets the failure there is now, and commits.
  Task<Result<>> clear();

  // Errc::needs_check once something has failed.
  const Result<>& failure() const { return failure_; }
  void fail_from_now_on(const Error& error);

 private:
  enum class Goal { data, states, completion };
  struct Round {
    Goal goal = Goal::data;
    std::uint64_t grow_to = 0;  // Bytes; 0: the size stays.
    Event done;
    Result<> outcome;
  };

  Task<Result<>> join(Goal goal, std::uint64_t grow_to = 0);
  Task<> run();
  Task<Result<>> one(const Round& round);
  Task<Result<>> reach(const Round& round);

  MetadataStore& metadata_;
  BlockDevice& destination_;
  std::function<void(const Error&)> on_failure_;
  std::shared_ptr<Round> next_;
  bool running_ = false;
  bool clearing_ = false;  // The next round begins by forgetting the failure.
  Result<> failure_;
};

}  // namespace clonedev
