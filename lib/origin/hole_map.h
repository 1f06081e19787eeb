// Where a file holds data and where it has holes, by SEEK_DATA and SEEK_HOLE, with remembered
// answers: on tmpfs one such question walks the pages of the whole run.
//
// Units: bytes. Thread: the scheduler's. Ownership: the descriptor stays the caller's and outlives
// the map. What was learned stays true because nobody may change an origin.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "origin/origin.h"

namespace clonedev {

class HoleMap {
 public:
  HoleMap(int fd, std::uint64_t size) : fd_(fd), size_(size) {}

  // What is known of the range, in order, from its beginning; ends early after kMostRuns runs,
  // which bounds the time of one call. Where the file system cannot tell, all is data.
  std::vector<OriginExtent> lookup(Extent range);

 private:
  static constexpr std::size_t kMostRuns = 128;
  static constexpr std::size_t kMostRemembered = 65536;

  const OriginExtent* remembered(std::uint64_t offset) const;
  OriginExtent ask(std::uint64_t offset) const;

  int fd_;
  std::uint64_t size_;
  std::map<std::uint64_t, OriginExtent> runs_;  // By their beginning.
};

}  // namespace clonedev
