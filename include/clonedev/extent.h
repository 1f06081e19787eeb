// A range of bytes of a disk, half open: [offset, offset + length).
#pragma once

#include <algorithm>
#include <cstdint>

namespace clonedev {

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  constexpr std::uint64_t end() const { return offset + length; }
  constexpr bool empty() const { return length == 0; }
  constexpr bool overlaps(const Extent& o) const {
    return std::max(offset, o.offset) < std::min(end(), o.end());
  }
  constexpr bool operator==(const Extent&) const = default;
};

constexpr Extent intersect(const Extent& a, const Extent& b) {
  const std::uint64_t lo = std::max(a.offset, b.offset);
  const std::uint64_t hi = std::min(a.end(), b.end());
  return lo < hi ? Extent{lo, hi - lo} : Extent{lo, 0};
}

}  // namespace clonedev
