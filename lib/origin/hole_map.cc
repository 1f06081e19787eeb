#include "origin/hole_map.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace clonedev {

std::vector<OriginExtent> HoleMap::lookup(Extent range) {
  std::vector<OriginExtent> answer;
  const std::uint64_t end = std::min(range.end(), size_);
  for (std::uint64_t at = range.offset; at < end && answer.size() < kMostRuns;) {
    const OriginExtent* known = remembered(at);
    if (!known) {
      if (runs_.size() >= kMostRemembered) runs_.clear();
      known = &(runs_[at] = ask(at));
    }
    const std::uint64_t until = std::min(known->extent.end(), end);
    answer.push_back({{at, until - at}, known->zero});
    at = until;
  }
  return answer;
}

const OriginExtent* HoleMap::remembered(std::uint64_t offset) const {
  auto after = runs_.upper_bound(offset);
  if (after == runs_.begin()) return nullptr;
  const OriginExtent& run = std::prev(after)->second;
  return run.extent.end() > offset ? &run : nullptr;
}

OriginExtent HoleMap::ask(std::uint64_t offset) const {
  const auto rest = [this, offset](bool zero) {
    return OriginExtent{{offset, size_ - offset}, zero};
  };
  const off_t data = ::lseek(fd_, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) return rest(errno == ENXIO);  // ENXIO: nothing but a hole up to the end.
  const std::uint64_t begin = std::min(static_cast<std::uint64_t>(data), size_);
  if (begin > offset) return {{offset, begin - offset}, true};
  const off_t hole = ::lseek(fd_, static_cast<off_t>(offset), SEEK_HOLE);
  if (hole < 0 || static_cast<std::uint64_t>(hole) <= offset) return rest(false);
  return {{offset, std::min(static_cast<std::uint64_t>(hole), size_) - offset}, false};
}

}  // namespace clonedev
