// Where users have read lately what only the origin has: who read a place will probably read what
// follows it.
//
// Pure. Units: blocks. Thread: one.
#pragma once

#include <cstdint>
#include <deque>

#include "core/state_map.h"

namespace clonedev {

class RecentMisses {
 public:
  static constexpr std::size_t kPlaces = 8;  // The latest that are remembered.

  // So many blocks behind a miss are its neighbourhood.
  void add(BlockRange missed, std::uint64_t neighbourhood);
  // Takes blocks, to the next multiple of `most`, that the origin alone has behind one of the
  // misses, the latest first; empty: there are none.
  BlockRange take(const StateMap& map, std::uint64_t most);

 private:
  std::deque<BlockRange> places_;  // What is left of the neighbourhoods, the latest miss first.
};

}  // namespace clonedev
