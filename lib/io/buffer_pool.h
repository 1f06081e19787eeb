// Page-aligned memory for copies and bounces, bounded and reserved beforehand: a user of the
// LUN may be the very page cache that memory reclaim waits for, so no I/O path may depend on an
// allocation of data pages succeeding late.
//
// Background work leaves a quarter of the pool to commands of the initiator. Waiters are served
// in order, commands first.
//
// Units: bytes. Thread: one scheduler; the pool outlives every Buffer.
#pragma once

#include <coroutine>
#include <cstddef>
#include <list>
#include <map>
#include <span>

#include "clonedev/error.h"

namespace clonedev {

class BufferPool {
 public:
  enum class Use { command, background };
  static constexpr std::size_t kLargest = std::size_t{4} << 20;

  class [[nodiscard]] Buffer {
   public:
    Buffer() = default;
    Buffer(BufferPool& pool, std::span<std::byte> bytes) : pool_(&pool), bytes_(bytes) {}
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer();
    std::span<std::byte> span() const { return bytes_; }
    explicit operator bool() const { return pool_ != nullptr; }

   private:
    BufferPool* pool_ = nullptr;
    std::span<std::byte> bytes_;
  };

  explicit BufferPool(std::size_t capacity);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  // auto buffer = co_await pool.acquire(length, use); length is 1..kLargest.
  class Acquire;
  Acquire acquire(std::size_t length, Use use);

  // Something in the background that waits is waited for by a command now.
  void hurry(Acquire& waiting);
  // Commands wait for memory.
  bool is_short() const { return !commands_.empty(); }

  std::size_t in_use() const { return in_use_; }
  std::size_t capacity() const { return capacity_; }
  // What all background work together may hold.
  std::size_t background_share() const { return capacity_ / 4 * 3; }
  // Gives the memory of an idle pool back to the system; it comes again by use.
  void trim();

 private:
  struct Waiter {
    std::size_t length;
    Use use;
    std::coroutine_handle<> handle;
    std::span<std::byte> granted;
  };

  std::span<std::byte> take(std::size_t length, Use use);
  void give(std::span<std::byte> bytes);
  void serve(std::list<Waiter*>& waiters);

  std::size_t capacity_;
  std::byte* arena_;
  std::size_t in_use_ = 0;
  std::map<std::size_t, std::size_t> free_;  // offset -> length, disjoint, never adjacent
  std::list<Waiter*> commands_;
  std::list<Waiter*> background_;
};

class BufferPool::Acquire {
 public:
  Acquire(BufferPool& pool, std::size_t length, Use use)
      : pool_(pool), waiter_{length, use, {}, {}} {}
  bool await_ready();
  void await_suspend(std::coroutine_handle<> handle);
  Buffer await_resume() { return Buffer(pool_, waiter_.granted); }

 private:
  friend class BufferPool;
  BufferPool& pool_;
  Waiter waiter_;
};

}  // namespace clonedev
