// Makes the disk of a clone larger while it is in use.
//
// The new blocks are `zero`, and of a clone that is complete zeroes on the destination. The last
// block of the old size is the hard part when it is a short one: what it has more now reads as
// zeroes, whatever origin and destination hold there. So it is made right before anything durable
// speaks of the larger disk: the destination is zeroed from the old end on, where no command
// comes yet; and what only the origin has of the block is copied, since `origin` would show the
// origin's bytes. Nor may it stay `copied`: the origin may hold something else there.
//
// From then on, until the larger size counts, the block is claimed: whoever changes it plans with
// one size from beginning to end. Commands that planned with the old one may still be on their
// way; their caller waits for them before it lets commands come to the new bytes.
//
// Units: bytes. Thread: one scheduler.
#pragma once

#include "engine/committer.h"
#include "engine/fetcher.h"
#include "io/in_flight.h"

namespace clonedev {

class Growth {
 public:
  struct Parts {
    BlockDevice& destination;
    MetadataStore& metadata;
    InFlight& in_flight;
    Fetcher& fetcher;
    Committer& committer;
  };

  explicit Growth(Parts parts) : parts_(parts) {}

  // Whether the disk may get that size, as far as can be said without doing it.
  Result<> judge(std::uint64_t size_bytes) const;
  // Destination and metadata device are long enough. One at a time; no block becomes
  // `destination` for good (Engine::finish()) meanwhile. Everything is as it was after an error,
  // unless it was one of the committer, after which the durable size is the old or the new one.
  // `give_up`: for what is needed of the origin. `deallocate`: zeroes may be holes.
  Task<Result<>> run(std::uint64_t size_bytes, Scheduler::TimePoint give_up, bool deallocate);

 private:
  Task<Result<>> zero_from_old_end(std::uint64_t size_bytes, bool deallocate);
  Task<Result<>> bring_from_origin(BlockRange block, Scheduler::TimePoint give_up);
  const Geometry& geometry() const { return parts_.metadata.map().geometry(); }

  Parts parts_;
};

}  // namespace clonedev
