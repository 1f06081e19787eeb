#include "core/recent_misses.h"

#include <algorithm>

namespace clonedev {

void RecentMisses::add(BlockRange missed, std::uint64_t neighbourhood) {
  BlockRange place{missed.end(), neighbourhood};
  // A stream that goes on: what has been passed of its neighbourhood stays passed.
  const auto same = std::ranges::find_if(places_, [&](const BlockRange& old) {
    return old.first <= place.end() && place.first <= old.end();
  });
  if (same != places_.end()) {
    const std::uint64_t first = std::max(place.first, same->first);
    place = {first, place.end() - std::min(first, place.end())};
    places_.erase(same);
  }
  places_.push_front(place);
  if (places_.size() > kPlaces) places_.pop_back();
}

BlockRange RecentMisses::take(const StateMap& map, std::uint64_t most) {
  const std::uint64_t blocks = map.geometry().blocks();
  while (!places_.empty()) {
    BlockRange& place = places_.front();
    const std::uint64_t end = std::min(place.end(), blocks);
    const std::uint64_t first = std::min(place.first, end);
    BlockRange found = map.find({first, end - first}, BlockState::origin);
    found.count = std::min(found.count, most - found.first % most);
    if (!found.empty()) {
      place = {found.end(), end - found.end()};
      return found;
    }
    places_.pop_front();
  }
  return {};
}

}  // namespace clonedev
