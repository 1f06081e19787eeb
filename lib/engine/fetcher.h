// Reads from the origin into memory of our own, with a deadline for whoever waits.
//
// The reader is answered at its deadline at the latest; the read itself may end later, into a
// buffer that nobody looks at any more. So nothing of the initiator is ever the target of an
// origin read (I14), and what lies past the origin's end reads as zeroes.
//
// Thread: one scheduler.
#pragma once

#include <memory>

#include "io/buffer_pool.h"
#include "io/event.h"
#include "origin/origin_link.h"

namespace clonedev {

class Fetcher {
 public:
  // Data of the origin; the buffer goes back to the pool with the last owner.
  struct Fetched {
    Extent extent;
    BufferPool::Buffer buffer;
    Event done;
    Result<> outcome;
    std::span<std::byte> bytes() const { return buffer.span(); }
  };
  static constexpr std::uint64_t kLargest = std::uint64_t{1} << 20;

  Fetcher(BufferPool& pool, OriginLink* origin) : pool_(pool), origin_(origin) {}

  // Returns when no read is under way, wanted or not.
  Task<> idle();

  // At most BufferPool::kLargest bytes. Errc::busy: not there at `give_up`.
  Task<Result<std::shared_ptr<Fetched>>> get(Extent extent, BufferPool::Use use,
                                             Scheduler::TimePoint give_up);
  // The same for a command, which may be long, straight into its own memory at the end.
  Task<Result<>> read(Extent extent, std::span<const iovec> data, Scheduler::TimePoint give_up);

 private:
  Task<> run(std::shared_ptr<Fetched> fetched, BufferPool::Use use, Scheduler::TimePoint give_up);
  Task<Result<>> read_part(Extent extent, std::vector<iovec> data, Scheduler::TimePoint give_up);

  BufferPool& pool_;
  Gate reads_;
  OriginLink* origin_;
};

}  // namespace clonedev
