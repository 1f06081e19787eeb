#include "metadata/unit_pool.h"

#include <bit>
#include <cassert>

namespace clonedev {

UnitPool::UnitPool(std::uint64_t first, std::uint64_t end)
    : first_(first), end_(end), next_(first), free_(0), words_(end / 64 + 1) {
  for (std::uint64_t unit = first; unit < end; ++unit) give(unit);
}

UnitPool UnitPool::extended(std::uint64_t end) const {
  assert(end >= end_);
  UnitPool larger(first_, end);
  for (std::uint64_t unit = first_; unit < end_; ++unit) {
    if (!is_free(unit)) larger.take(unit);
  }
  return larger;
}

std::uint64_t UnitPool::take() {
  assert(free_ > 0);
  std::uint64_t word = next_ / 64;
  std::uint64_t candidates = words_[word] & (~std::uint64_t{0} << next_ % 64);
  while (candidates == 0) {
    word = word + 1 < words_.size() ? word + 1 : 0;
    candidates = words_[word];
  }
  const std::uint64_t unit = word * 64 + static_cast<unsigned>(std::countr_zero(candidates));
  take(unit);
  next_ = unit + 1 < end_ ? unit + 1 : first_;
  return unit;
}

bool UnitPool::take(std::uint64_t unit) {
  if (!contains(unit) || !is_free(unit)) return false;
  words_[unit / 64] &= ~(std::uint64_t{1} << unit % 64);
  --free_;
  return true;
}

void UnitPool::give(std::uint64_t unit) {
  assert(contains(unit) && !is_free(unit));
  words_[unit / 64] |= std::uint64_t{1} << unit % 64;
  ++free_;
}

}  // namespace clonedev
