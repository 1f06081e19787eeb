// Memory of a command's own, aligned for a destination that is opened O_DIRECT.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

namespace clonedev {

class WorkBuffer {
 public:
  // All commands of the daemon together; initiators can have hundreds under way.
  static constexpr std::size_t kBudgetBytes = std::size_t{64} << 20;

  // Empty when memory is short or the budget is used up. `bytes` is not 0.
  static WorkBuffer of(std::size_t bytes) {
    constexpr std::size_t kAlignment = 4096;
    const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const bool within = in_use_.fetch_add(rounded) + rounded <= kBudgetBytes;
    auto* const memory =
        within ? static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded)) : nullptr;
    if (memory == nullptr) in_use_ -= rounded;
    return WorkBuffer(memory, bytes, rounded);
  }

  explicit operator bool() const { return memory_ != nullptr; }
  std::span<std::byte> bytes() const { return {memory_.get(), size_}; }
  // The first `length` bytes, as a request wants them; valid until it is called again.
  std::span<const iovec> pieces(std::size_t length) {
    piece_ = {memory_.get(), length};
    return {&piece_, 1};
  }

 private:
  struct GiveBack {
    std::size_t rounded;
    void operator()(std::byte* memory) const {
      std::free(memory);
      in_use_ -= rounded;
    }
  };
  WorkBuffer(std::byte* memory, std::size_t size, std::size_t rounded)
      : memory_(memory, GiveBack{rounded}), size_(size) {}

  static inline std::atomic<std::size_t> in_use_ = 0;

  std::unique_ptr<std::byte, GiveBack> memory_;
  std::size_t size_;
  iovec piece_{};
};

}  // namespace clonedev
