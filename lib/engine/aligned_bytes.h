// Small page-aligned memory for blocks that are put together from several sources.
#pragma once

#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

#include "core/geometry.h"

namespace clonedev {

class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t length)
      : length_(length),
        memory_(static_cast<std::byte*>(std::aligned_alloc(
            kBlockSize, Geometry::divide_up(length, kBlockSize) * kBlockSize))) {}
  std::span<std::byte> span() const { return {memory_.get(), length_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::size_t length_;
  std::unique_ptr<std::byte, Free> memory_;
};

// The (at most two) blocks at the edges of a write that covers them in part.
class EdgeBlocks {
 public:
  enum Side : std::size_t { head, tail };

  std::span<std::byte> side(Side side) {
    if (!memory_) memory_ = std::make_unique<AlignedBytes>(2 * kBlockSize);
    return memory_->span().subspan(side * kBlockSize, kBlockSize);
  }
  // Whether the side holds the origin's data.
  bool loaded(Side side) const { return loaded_[side]; }
  void set_loaded(Side side) { loaded_[side] = true; }

 private:
  std::unique_ptr<AlignedBytes> memory_;
  std::array<bool, 2> loaded_{};
};

}  // namespace clonedev
