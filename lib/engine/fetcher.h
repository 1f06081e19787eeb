// Reads from the origin into memory of our own, each part once for all who want it at a time, with
// a deadline for each of those who wait.
//
// A read is listed from its beginning until the last who holds its data lets go, and whoever wants
// what it covers joins it. A command that joins a background read brings it forward; a joiner
// with more time than who began lengthens it. Who gave up changes nothing for the others, but what
// somebody has waited for in vain is joined by nobody any more: it may hang for ever. A read that
// failed fails all who share it, unless it was larger than what they want: then exactly that is
// read again, since the error may lie beside it.
//
// The reader is answered at its deadline at the latest; the read itself may end later, into a
// buffer that nobody looks at any more. So nothing of the initiator is ever the target of an
// origin read (I14), and what lies past the origin's end reads as zeroes.
//
// Units: bytes. Thread: one scheduler. Ownership: outlives everything it has fetched.
#pragma once

#include <cassert>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "io/buffer_pool.h"
#include "io/event.h"
#include "origin/origin_link.h"

namespace clonedev {

class Fetcher {
 public:
  // Data of the origin, in a buffer that goes back to the pool with the last owner, or in memory
  // that others have part in; then the buffer only counts it.
  class Fetched {
   public:
    explicit Fetched(Extent whole) : extent(whole) {}
    Fetched(const Fetched&) = delete;
    Fetched& operator=(const Fetched&) = delete;
    ~Fetched() { unlist(); }

    const Extent extent;
    bool kept = false;  // Somebody sees to it that the destination gets it.
    std::span<const std::byte> bytes() const { return content_.bytes; }
    // `part` lies in the extent.
    std::span<const std::byte> bytes(Extent part) const {
      assert(part.offset >= extent.offset && part.end() <= extent.end());
      return bytes().subspan(part.offset - extent.offset, part.length);
    }

   private:
    friend class Fetcher;
    using List = std::multimap<std::uint64_t, std::weak_ptr<Fetched>>;
    void unlist();

    BufferPool::Buffer buffer_;
    OriginBytes content_;
    BufferPool::Acquire* memory_ = nullptr;  // While it waits for its buffer.
    Scheduler::TimePoint give_up_;
    Event done_;
    Result<> outcome_;
    bool for_users_ = false;
    List* list_ = nullptr;
    List::iterator where_;
  };
  using Shared = std::shared_ptr<Fetched>;
  static constexpr std::uint64_t kLargest = BufferPool::kLargest;

  // What may be worth keeping on the destination: the answer to a user's READ.
  using OnUserData = std::function<void(const Shared&)>;

  Fetcher(BufferPool& pool, OriginLink* origin, OnUserData on_user_data = {})
      : pool_(pool), origin_(origin), on_user_data_(std::move(on_user_data)) {}

  // Returns when no read is under way, wanted or not.
  Task<> idle();

  // At most BufferPool::kLargest bytes, from whole blocks to whole blocks. What comes may be more,
  // around it. Errc::busy: not there at `give_up`.
  Task<Result<Shared>> get(Extent extent, BufferPool::Use use, Scheduler::TimePoint give_up);

  enum class Purpose { user_data, other };
  // The same for a command, which may be long, straight into its own memory at the end. `blocks`
  // is the extent grown to whole blocks: that is what is read.
  Task<Result<>> read(Extent extent, Extent blocks, std::span<const iovec> data, Purpose purpose,
                      Scheduler::TimePoint give_up);

  // How much of the beginning of the extent can be had in one go: inside a read that is listed, or
  // apart from all of them.
  Extent first_part(Extent extent) const;
  // Whether get() would join a read.
  bool shares(Extent extent) const { return find(extent) != nullptr; }

 private:
  Task<> run(Shared fetched, BufferPool::Use use);
  Task<Result<>> fill(Fetched& fetched, Scheduler::TimePoint give_up);
  Task<Result<>> read_part(Extent part, Extent wanted, std::vector<iovec> data, Purpose purpose,
                           Scheduler::TimePoint give_up);
  Task<Result<Shared>> wait_for(Shared fetched, Scheduler::TimePoint give_up);
  static Shared make(Extent extent, Purpose purpose, Scheduler::TimePoint give_up);
  Shared join(Extent extent, BufferPool::Use use, Purpose purpose, Scheduler::TimePoint give_up);
  Shared find(Extent extent) const;
  void list(const Shared& fetched);
  Task<Result<Shared>> get_for(Extent extent, BufferPool::Use use, Purpose purpose,
                               Scheduler::TimePoint give_up);

  BufferPool& pool_;
  Gate reads_;
  OriginLink* origin_;
  OnUserData on_user_data_;
  Fetched::List listed_;  // By offset.
};

}  // namespace clonedev
