// The one place where bytes, blocks and regions are turned into each other.
//
// A block is 4 KiB, the unit of validity. The last block may be short; it is treated like every
// other: whoever covers what there is of it covers it whole. A region is dm-clone's unit, a power
// of two from 4 KiB to 1 GiB. All in 64 bits, half-open ranges.
#pragma once

#include <algorithm>
#include <cstdint>

#include "clonedev/extent.h"

namespace clonedev {

inline constexpr std::uint64_t kSectorSize = 512;  // The smallest logical block of a LUN.
inline constexpr std::uint64_t kBlockSize = 4096;

struct BlockRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;

  constexpr std::uint64_t end() const { return first + count; }
  constexpr bool empty() const { return count == 0; }
  constexpr bool operator==(const BlockRange&) const = default;
};

class Geometry {
 public:
  constexpr Geometry(std::uint64_t size_bytes, std::uint64_t region_size)
      : size_(size_bytes), region_size_(region_size) {}

  constexpr std::uint64_t size_bytes() const { return size_; }
  constexpr std::uint64_t region_size() const { return region_size_; }
  constexpr std::uint64_t blocks() const { return divide_up(size_, kBlockSize); }
  constexpr std::uint64_t regions() const { return divide_up(size_, region_size_); }
  constexpr std::uint64_t blocks_per_region() const { return region_size_ / kBlockSize; }

  // Every block that the extent touches.
  constexpr BlockRange touched(Extent extent) const {
    if (extent.empty()) return {extent.offset / kBlockSize, 0};
    const std::uint64_t first = extent.offset / kBlockSize;
    return {first, divide_up(extent.end(), kBlockSize) - first};
  }
  // The blocks that the extent covers whole; empty when there is none.
  constexpr BlockRange covered(Extent extent) const {
    const std::uint64_t first = divide_up(extent.offset, kBlockSize);
    const std::uint64_t end = extent.end() >= size_ ? blocks() : extent.end() / kBlockSize;
    return {first, end > first ? end - first : 0};
  }
  // The bytes of a range of blocks, cut at the end of the disk.
  constexpr Extent bytes(BlockRange range) const {
    const std::uint64_t offset = range.first * kBlockSize;
    const std::uint64_t end = std::min(range.end() * kBlockSize, size_);
    return {offset, end > offset ? end - offset : 0};
  }
  // The extent grown to whole blocks.
  constexpr Extent aligned(Extent extent) const { return bytes(touched(extent)); }

  static constexpr std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) {
    return a / b + (a % b != 0);
  }

 private:
  std::uint64_t size_;
  std::uint64_t region_size_;
};

}  // namespace clonedev
