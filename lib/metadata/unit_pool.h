// Which units of the metadata device are free. Pure.
#pragma once

#include <cstdint>
#include <vector>

namespace clonedev {

class UnitPool {
 public:
  // All of [first, end) is free.
  UnitPool(std::uint64_t first, std::uint64_t end);

  // The same with units up to `end`; those that are added are free.
  UnitPool extended(std::uint64_t end) const;

  std::uint64_t free() const { return free_; }
  std::uint64_t used() const { return end_ - first_ - free_; }
  // The next free unit, going round so that writes are mostly sequential; there must be one.
  std::uint64_t take();
  // False: the unit is out of range or not free.
  bool take(std::uint64_t unit);
  void give(std::uint64_t unit);
  bool contains(std::uint64_t unit) const { return unit >= first_ && unit < end_; }

 private:
  bool is_free(std::uint64_t unit) const { return words_[unit / 64] >> unit % 64 & 1; }

  std::uint64_t first_;
  std::uint64_t end_;
  std::uint64_t next_;
  std::uint64_t free_;
  std::vector<std::uint64_t> words_;  // A bit for each unit from 0 on; set: free.
};

}  // namespace clonedev
