#include "crash/crash_images.h"

#include <algorithm>
#include <limits>
#include <set>

namespace clonedev {
namespace {
constexpr std::uint64_t kEver = std::numeric_limits<std::uint64_t>::max();
}

CrashImages::CrashImages(const VolatileDevice& disk, bool lose_units)
    : durable_(disk.durable()), sectors_(disk.unflushed()), lose_units_(lose_units) {
  for (std::size_t i = 0; i < sectors_.size(); ++i) {
    const std::uint64_t number = sectors_[i].sector * VolatileDevice::kSector / kUnit;
    if (units_.empty() || units_.back().number != number) units_.push_back({number, i, i});
    ++units_.back().end;
  }
  for (const Unit& unit : units_) {
    double contents = 1;
    for (std::size_t i = unit.first; i < unit.end; ++i) {
      contents *= static_cast<double>(1 + sectors_[i].contents.size());
    }
    count_ *= contents + (lose_units_ ? 1 : 0);
  }
}

MemoryDevice CrashImages::image(const Choice& choice, const std::vector<bool>& lost) const {
  MemoryDevice disk = durable_;
  for (std::size_t i = 0; i < sectors_.size(); ++i) {
    if (choice[i] == 0) continue;
    disk.poke(sectors_[i].sector * VolatileDevice::kSector,
              sectors_[i].contents[choice[i] - 1].data);
  }
  for (std::size_t i = 0; i < units_.size(); ++i) {
    if (!lost[i]) continue;
    const std::uint64_t at = units_[i].number * kUnit;
    const std::vector<std::byte> garbage(std::min(kUnit, disk.size() - at), std::byte{0xA5});
    disk.poke(at, garbage);
  }
  return disk;
}

std::uint64_t CrashImages::each(std::uint64_t seed, const Visit& visit) const {
  return complete() ? all(visit) : family(seed, visit);
}

std::uint64_t CrashImages::all(const Visit& visit) const {
  Choice choice(sectors_.size());
  std::vector<bool> lost(units_.size());
  std::uint64_t shown = 0;
  do {
    visit(image(choice, lost));
    ++shown;
  } while (next(choice, lost));
  return shown;
}

// Counts up, unit by unit: the sectors of a unit are its digits, and "lost" comes after their last
// number.
bool CrashImages::next(Choice& choice, std::vector<bool>& lost) const {
  for (std::size_t u = 0; u < units_.size(); ++u) {
    if (lost[u]) {
      lost[u] = false;  // All its sectors are 0 already: carry on with the next unit.
      continue;
    }
    for (std::size_t i = units_[u].first; i < units_[u].end; ++i) {
      if (++choice[i] <= sectors_[i].contents.size()) return true;
      choice[i] = 0;
    }
    if (lose_units_) {
      lost[u] = true;
      return true;
    }
  }
  return false;
}

CrashImages::Choice CrashImages::newest_before(std::uint64_t time) const {
  Choice choice(sectors_.size());
  for (std::size_t i = 0; i < sectors_.size(); ++i) {
    const auto& contents = sectors_[i].contents;
    const auto later =
        std::ranges::find_if(contents, [time](const auto& content) { return content.time > time; });
    choice[i] = static_cast<std::size_t>(later - contents.begin());
  }
  return choice;
}

std::uint64_t CrashImages::family(std::uint64_t seed, const Visit& visit) const {
  std::mt19937_64 random(seed);
  const Choice none(sectors_.size());
  const Choice newest = newest_before(kEver);
  const std::vector<bool> kept(units_.size());
  std::uint64_t shown = 0;
  const auto show = [&](const Choice& choice, const std::vector<bool>& lost) {
    visit(image(choice, lost));
    ++shown;
  };
  std::set<std::uint64_t> times{0};
  for (std::size_t i = 0; i < sectors_.size(); ++i) {
    Choice but_one = newest;
    but_one[i] = 0;
    show(but_one, kept);
    for (std::size_t version = 1; version <= sectors_[i].contents.size(); ++version) {
      Choice single = none;
      single[i] = version;
      show(single, kept);
      times.insert(sectors_[i].contents[version - 1].time);
    }
  }
  for (const std::uint64_t time : times) show(newest_before(time), kept);
  for (std::size_t unit = 0; lose_units_ && unit < units_.size(); ++unit) {
    std::vector<bool> lost = kept;
    lost[unit] = true;
    show(none, lost);
    show(newest, lost);
  }
  for (unsigned sample = 0; sample < kSamples; ++sample) {
    Choice choice = none;
    std::vector<bool> lost = kept;
    for (std::size_t i = 0; i < choice.size(); ++i) {
      choice[i] = random() % (1 + sectors_[i].contents.size());
    }
    for (std::size_t u = 0; lose_units_ && u < lost.size(); ++u) lost[u] = random() % 4 == 0;
    show(choice, lost);
  }
  return shown;
}

}  // namespace clonedev
