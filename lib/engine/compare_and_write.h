// COMPARE AND WRITE: compared and written under one claim, and remembered until its initiator has
// the answer, as the kernel executes it again when the daemon died in between (I13).
//
// Units: bytes. Thread: one scheduler. Ownership: Parts outlive this, data the task.
#pragma once

#include <span>
#include <unordered_map>

#include "engine/fetcher.h"
#include "engine/user_writer.h"
#include "io/block_device.h"
#include "io/in_flight.h"
#include "metadata/metadata_store.h"

namespace clonedev {

class CompareAndWrite {
 public:
  struct Parts {
    Scheduler& scheduler;
    BlockDevice& destination;
    MetadataStore& metadata;
    InFlight& in_flight;
    Fetcher& fetcher;
    UserWriter& writer;
  };
  static constexpr std::uint64_t kLargest = 64 << 10;  // Of what is compared.

  explicit CompareAndWrite(Parts parts);

  // `data`: what to compare, then as much to write. `who` names the command until answered(who);
  // null: never. Errc::miscompare with the first place that differs as its detail;
  // Fetcher::read()'s errors, UserWriter::write()'s.
  Task<Result<>> run(Extent extent, std::span<const iovec> data, const void* who,
                     Scheduler::TimePoint deadline);
  // The initiator of that command has its answer.
  void answered(const void* who);
  // What the last process executed, once nobody will ask for it again. Called now and then.
  void forget_earlier();

 private:
  struct Hashes {
    std::uint64_t expected = 0;
    std::uint64_t wanted = 0;
  };
  Task<Result<>> load_present(Extent aligned, std::span<std::byte> content);
  bool done_by_the_last_process(std::uint64_t offset, const Hashes& hashes, const void* who);
  const Geometry& geometry() const { return parts_.metadata.map().geometry(); }

  Parts parts_;
  // Until then a command may be one that the last process had executed already.
  const Scheduler::TimePoint replay_until_;
  // Those that have landed, or may have, and are not answered: what they are remembered by.
  std::unordered_map<const void*, std::uint64_t> unanswered_;
};

}  // namespace clonedev
