#include "io/buffer_pool.h"

#include <sys/mman.h>

#include <cassert>
#include <new>
#include <utility>

#include "io/scheduler.h"

namespace clonedev {
namespace {

constexpr std::size_t kGranule = 4096;

constexpr std::size_t rounded(std::size_t length) {
  return (length + kGranule - 1) / kGranule * kGranule;
}

}  // namespace

BufferPool::Buffer::Buffer(Buffer&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}

BufferPool::Buffer& BufferPool::Buffer::operator=(Buffer&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

BufferPool::Buffer::~Buffer() {
  if (pool_) pool_->give(bytes_);
}

BufferPool::BufferPool(std::size_t capacity) : capacity_(rounded(capacity)) {
  assert(capacity_ * 3 / 4 >= kLargest && "a background copy could never be served");
  void* memory =
      ::mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<std::byte*>(memory);
  free_.emplace(0, capacity_);
}

BufferPool::~BufferPool() {
  assert(in_use_ == 0 && "buffer pool destroyed with buffers out");
  ::munmap(arena_, capacity_);
}

void BufferPool::trim() {
  if (in_use_ == 0) ::madvise(arena_, capacity_, MADV_DONTNEED);
}

std::span<std::byte> BufferPool::take(std::size_t length, Use use) {
  const std::size_t need = rounded(length);
  const std::size_t limit = use == Use::background ? background_share() : capacity_;
  if (in_use_ + need > limit) return {};
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < need) continue;
    const auto [offset, room] = *it;
    free_.erase(it);
    if (room > need) free_.emplace(offset + need, room - need);
    in_use_ += need;
    return {arena_ + offset, length};
  }
  return {};
}

void BufferPool::give(std::span<std::byte> bytes) {
  std::size_t offset = static_cast<std::size_t>(bytes.data() - arena_);
  std::size_t length = rounded(bytes.size());
  in_use_ -= length;
  auto next = free_.lower_bound(offset);
  if (next != free_.end() && offset + length == next->first) {
    length += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      offset = before->first;
      length += before->second;
      free_.erase(before);
    }
  }
  free_.emplace(offset, length);
  serve(commands_);
  if (commands_.empty()) serve(background_);
}

void BufferPool::serve(std::list<Waiter*>& waiters) {
  while (!waiters.empty()) {
    Waiter& waiter = *waiters.front();
    waiter.granted = take(waiter.length, waiter.use);
    if (waiter.granted.empty()) return;
    waiters.pop_front();
    Scheduler::current().schedule(waiter.handle);
  }
}

void BufferPool::hurry(Acquire& waiting) {
  Waiter& waiter = waiting.waiter_;
  if (std::exchange(waiter.use, Use::command) == Use::command || !waiter.granted.empty()) return;
  background_.remove(&waiter);
  commands_.push_back(&waiter);
  serve(commands_);
}

BufferPool::Acquire BufferPool::acquire(std::size_t length, Use use) {
  assert(length > 0 && length <= kLargest);
  return Acquire(*this, length, use);
}

bool BufferPool::Acquire::await_ready() {
  const bool others = waiter_.use == Use::command
                          ? !pool_.commands_.empty()
                          : !pool_.commands_.empty() || !pool_.background_.empty();
  if (!others) waiter_.granted = pool_.take(waiter_.length, waiter_.use);
  return !waiter_.granted.empty();
}

void BufferPool::Acquire::await_suspend(std::coroutine_handle<> handle) {
  waiter_.handle = handle;
  (waiter_.use == Use::command ? pool_.commands_ : pool_.background_).push_back(&waiter_);
}

}  // namespace clonedev
