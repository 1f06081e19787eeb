// The clone itself: what READ, WRITE, zeroing, COMPARE AND WRITE and FLUSH mean on origin,
// destination and metadata.
//
// Order of things, kept in every path:
//  - data reaches the destination, then the state is set in the live map, then the command is
//    answered; FLUSH and FUA make both durable (I1, I3, I7, I13);
//  - whoever changes the destination has an entry in the in-flight table and plans under it (I6);
//  - nobody waits for the origin, or for memory that somebody waiting for the origin may hold,
//    while holding an entry; only that waiting has a deadline, and a command that missed it has
//    had no effect (I14).
//
// Units: bytes. Thread: one scheduler. Ownership: everything in Parts outlives the engine; stop()
// has ended before it is destroyed.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "clonedev/clone_device.h"
#include "engine/commands.h"
#include "engine/committer.h"
#include "engine/compare_and_write.h"
#include "engine/copier.h"
#include "engine/copy_on_read.h"
#include "engine/fetcher.h"
#include "engine/growth.h"
#include "engine/hydrator.h"
#include "engine/user_writer.h"
#include "engine/verifier.h"
#include "io/block_device.h"
#include "io/in_flight.h"
#include "metadata/metadata_store.h"
#include "origin/origin_link.h"

namespace clonedev {

class Engine {
 public:
  struct Parts {
    Scheduler& scheduler;
    BufferPool& origin_pool;  // For what comes from the origin, and nothing else.
    BlockDevice& destination;
    MetadataStore& metadata;
    OriginLink* origin;  // Null for a clone that is complete.
  };

  Engine(Parts parts, const Options& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Begins hydration and the periodic commit.
  void start();
  // Stops hydration, ends waits for the origin, waits for everything under way (I12), however long
  // the devices take, and says in the log that it does; commits.
  Task<Result<>> stop();

  Task<Result<>> read(Extent extent, std::span<const iovec> data);
  Task<Result<>> write(Extent extent, std::span<const iovec> data, bool fua);
  Task<Result<>> zero(Extent extent, Zeroing how, bool fua);
  // `who` names the command until answered(who), when its initiator has the answer; null: never.
  Task<Result<>> compare_and_write(Extent extent, std::span<const iovec> data, bool fua,
                                   const void* who = nullptr);
  void answered(const void* who) { compare_and_write_.answered(who); }
  Task<Result<>> flush();

  // As CloneDevice::provisioning().
  std::size_t provisioning(Extent extent, std::span<ProvisionedRun> runs) const;
  // Makes the disk larger; destination and metadata device are long enough. Ends when the larger
  // size is durable and no command that began with the old one is under way. Then, and not before,
  // commands may come to what is new. Errors: as Growth::run(); of judge_growth().
  Task<Result<>> grow(std::uint64_t size_bytes);
  // Whether that size is possible and, at present, anything can grow.
  Result<> judge_growth(std::uint64_t size_bytes) const;

  // Everything of Status but name and size of the pools; no I/O.
  Status status() const;
  void apply_live(const Options& options);
  // The admin has seen to the fault: from now on things can be durable again.
  Task<Result<>> clear_needs_check();
  // Compares what was copied with the origin (verifier.h). Errc::refused when it is complete, or,
  // for a start, being verified already.
  Result<Verification> verify(VerifyAction action);
  bool complete() const { return complete_; }
  // A commit or a flush has failed, and no admin has acted since.
  bool needs_check() const { return !committer_.failure(); }
  // Opened with needs_check: what changes data is Errc::refused until that is cleared, since who
  // writes now may never have met the failure. After one while it is open writes go on: whoever
  // has to know meets it in FLUSH.
  bool read_only() const { return read_only_; }
  // That, or ro=on: no command changes data.
  bool write_protected() const { return read_only_ || configured_read_only_; }

 private:
  Task<Result<>> read_step(ReadStep step, std::vector<iovec> data);
  Task<Result<>> read_destination(Extent extent, std::vector<iovec> data);
  Task<Result<>> settle(Result<> outcome, bool fua);
  Task<Result<>> zero_blocks(BlockRange blocks, Zeroing how);
  Result<> may_write() const;
  Scheduler::TimePoint give_up() const;
  Result<> counted(Result<> outcome);
  bool gives_up_a_lost_origin() const;
  void failed(const Error& error);
  void mismatched(Extent extent);
  Task<> tick();
  Task<Result<>> stop_now();
  Task<> say_what_stop_waits_for();
  Task<> finish();
  bool all_on_destination() const;

  Parts parts_;
  const Geometry& geometry_;  // The map's: the disk may grow.
  const bool write_cache_;
  bool discard_passdown_;
  std::chrono::milliseconds origin_timeout_;
  OriginLoss on_origin_loss_;
  InFlight in_flight_;
  Commands commands_;
  Gate background_;
  InFlight turns_;  // Who finishes or grows the clone claims its first byte: one at a time.
  Event stopping_;
  Event stopped_;
  Event tick_soon_;
  Committer committer_;
  Fetcher fetcher_;
  UserWriter writer_;
  CompareAndWrite compare_and_write_;
  Copier copier_;
  TokenBucket rate_limit_;
  Hydrator hydrator_;
  CopyOnRead copy_on_read_;
  Verifier verifier_;
  Growth growth_;
  bool complete_;
  // Every block is on the destination and stays there: zeroing is done on the device (I8).
  bool plain_;
  bool read_only_;
  const bool configured_read_only_;
  Status::Errors errors_;
};

}  // namespace clonedev
