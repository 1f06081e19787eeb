#include "support/shadow_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace clonedev {

ShadowDisk::ShadowDisk(Bytes origin)
    : origin_(std::move(origin)), sectors_(origin_.size() / kSector) {
  for (Versions& versions : sectors_) versions.push_back({kOrigin, 0, 0, true, true});
}

// The first words tell which write and which sector it was, for the reader of a complaint.
void ShadowDisk::fill(Number number, std::uint64_t sector, std::byte* to) const {
  std::uint64_t words[kSector / sizeof(std::uint64_t)] = {};
  if (number == kOrigin) {
    std::memcpy(to, &origin_[sector * kSector], kSector);
    return;
  }
  if (number != kZero) {
    words[0] = number;
    words[1] = sector;
    std::uint64_t mixed = number * 0x9E3779B97F4A7C15u + sector;
    for (std::size_t i = 2; i < std::size(words); ++i) {
      mixed = (mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9u;
      words[i] = mixed;
    }
  }
  std::memcpy(to, words, kSector);
}

Bytes ShadowDisk::bytes(Number number, Extent extent) const {
  Bytes content(extent.length);
  for (std::uint64_t at = 0; at < extent.length; at += kSector) {
    fill(number, (extent.offset + at) / kSector, &content[at]);
  }
  return content;
}

bool ShadowDisk::matches(Number number, std::uint64_t sector, const std::byte* found) const {
  if (number == kOrigin) return std::memcmp(&origin_[sector * kSector], found, kSector) == 0;
  if (number != kZero && std::memcmp(&number, found, sizeof number) != 0) return false;
  std::byte content[kSector];
  fill(number, sector, content);
  return std::memcmp(content, found, kSector) == 0;
}

bool ShadowDisk::visible_before(const Version& version, Time time) {
  return std::min(version.answered ? version.ended : kNever, version.seen) < time;
}

bool ShadowDisk::is_durable(const Version& version) const {
  return version.durable || (version.answered && version.ended < flushed_);
}

bool ShadowDisk::readable(const Versions& versions, const Version& version, Time since) const {
  return std::ranges::none_of(versions, [&](const Version& later) {
    return version.ended < later.begun && visible_before(later, since);
  });
}

bool ShadowDisk::survives(const Versions& versions, const Version& version) const {
  return std::ranges::none_of(versions, [&](const Version& later) {
    return version.ended < later.begun && is_durable(later);
  });
}

ShadowDisk::Change ShadowDisk::begin(Extent extent, Number number) {
  const Change change{extent, number, *under_way_.insert(now()).first};
  for (std::uint64_t at = extent.offset; at < extent.end(); at += kSector) {
    Versions& versions = sectors_[at / kSector];
    prune(versions);
    versions.push_back({number, change.begun});
  }
  return change;
}

// Forgets what neither a request under way nor a power cut can bring back.
void ShadowDisk::prune(Versions& versions) {
  if (versions.size() < 8) return;
  const Time oldest = under_way_.empty() ? kNever : *under_way_.begin();
  const Versions all = versions;
  std::erase_if(versions, [&](const Version& version) {
    return !survives(all, version) && !readable(all, version, oldest);
  });
}

ShadowDisk::Version* ShadowDisk::find(std::uint64_t sector, const Change& change) {
  for (Version& version : sectors_[sector]) {
    if (version.begun == change.begun) return &version;
  }
  return nullptr;
}

void ShadowDisk::end(const Change& change, bool answered, bool durable) {
  const Time time = now();
  under_way_.erase(change.begun);
  for (std::uint64_t at = change.extent.offset; at < change.extent.end(); at += kSector) {
    Version* version = find(at / kSector, change);
    if (!version) continue;
    version->ended = time;
    version->answered = answered;
    version->durable = durable;
  }
}

void ShadowDisk::done(const Change& change, bool durable) { end(change, true, durable); }

void ShadowDisk::perhaps(const Change& change) { end(change, false, false); }

std::string ShadowDisk::undone(const Change& change) {
  std::string complaint;
  under_way_.erase(change.begun);
  for (std::uint64_t at = change.extent.offset; at < change.extent.end(); at += kSector) {
    const Version* version = find(at / kSector, change);
    if (version && version->seen != kNever) {
      complaint = fmt::format("write {} failed without effect, but was seen in sector {}",
                              change.number, at / kSector);
    }
    std::erase_if(sectors_[at / kSector],
                  [&](const Version& v) { return v.begun == change.begun; });
  }
  return complaint;
}

void ShadowDisk::flushed(Time begun) { flushed_ = std::max(flushed_, begun); }

ShadowDisk::Time ShadowDisk::begin_read() { return *under_way_.insert(now()).first; }

std::string ShadowDisk::end_read(Time begun, Extent extent, const Bytes& found) {
  const Time time = now();
  under_way_.erase(begun);
  for (std::uint64_t at = 0; at < found.size(); at += kSector) {
    const std::uint64_t sector = (extent.offset + at) / kSector;
    Versions& versions = sectors_[sector];
    Version* match = nullptr;
    unsigned matching = 0;
    for (Version& version : versions) {
      if (!matches(version.number, sector, &found[at])) continue;
      if (!readable(versions, version, begun)) continue;
      match = &version;
      ++matching;
    }
    if (matching == 0) return complaint("a read", sector, &found[at]);
    if (matching == 1) match->seen = std::min(match->seen, time);
  }
  return {};
}

Bytes ShadowDisk::guess(Extent extent) const {
  Bytes content(extent.length);
  for (std::uint64_t at = 0; at < extent.length; at += kSector) {
    const std::uint64_t sector = (extent.offset + at) / kSector;
    const Versions& versions = sectors_[sector];
    const auto last = std::ranges::find_if(versions, [&](const Version& version) {
      return version.ended != kNever && readable(versions, version, clock_);
    });
    fill(last == versions.end() ? kOrigin : last->number, sector, &content[at]);
  }
  return content;
}

std::optional<Bytes> ShadowDisk::settled(Extent extent, const Change& own) const {
  Bytes content(extent.length);
  for (std::uint64_t at = 0; at < extent.length; at += kSector) {
    const std::uint64_t sector = (extent.offset + at) / kSector;
    const Versions& versions = sectors_[sector];
    std::set<Number> candidates;
    for (const Version& version : versions) {
      if (version.begun == own.begun || !readable(versions, version, own.begun)) continue;
      candidates.insert(version.number);
    }
    if (candidates.size() != 1) return std::nullopt;
    fill(*candidates.begin(), sector, &content[at]);
  }
  return content;
}

const ShadowDisk::Version* ShadowDisk::find_after(Death how, std::uint64_t sector,
                                                  const std::byte* content) const {
  const Versions& versions = sectors_[sector];
  const auto match = std::ranges::find_if(versions, [&](const Version& version) {
    const bool left =
        how == Death::kill ? readable(versions, version, clock_ + 1) : survives(versions, version);
    return left && matches(version.number, sector, content);
  });
  return match == versions.end() ? nullptr : &*match;
}

bool ShadowDisk::may_find(Death how, std::uint64_t sector, const std::byte* content) const {
  return find_after(how, sector, content) != nullptr;
}

// What was found is what counts from now on, but for the next power cut it is only a late write.
std::string ShadowDisk::killed(const Bytes& found) {
  under_way_.clear();
  const Time death = now();
  const Time birth = now();
  for (std::uint64_t sector = 0; sector < sectors_.size(); ++sector) {
    Versions& versions = sectors_[sector];
    const std::byte* content = &found[sector * kSector];
    const Version* match = find_after(Death::kill, sector, content);
    if (!match) return complaint("after a kill", sector, content);
    const Number number = match->number;
    for (Version& version : versions) version.ended = std::min(version.ended, death);
    versions.push_back({number, birth, birth, true});
  }
  return {};
}

std::string ShadowDisk::power_cut(const Bytes& found) {
  under_way_.clear();
  const Time time = now();
  for (std::uint64_t sector = 0; sector < sectors_.size(); ++sector) {
    Versions& versions = sectors_[sector];
    const std::byte* content = &found[sector * kSector];
    const Version* match = find_after(Death::power_cut, sector, content);
    if (!match) return complaint("after a power cut", sector, content);
    versions = {{match->number, time, time, true, true}};
  }
  return {};
}

std::string ShadowDisk::complaint(const std::string& what, std::uint64_t sector,
                                  const std::byte* found) const {
  std::uint64_t words[2];
  std::memcpy(words, found, sizeof words);
  std::string text = matches(kOrigin, sector, found) ? "the origin's data"
                     : matches(kZero, sector, found)
                         ? "zeroes"
                         : fmt::format("write {} of sector {}", words[0], words[1]);
  text = fmt::format("{}: sector {} (block {}) holds {}; known (number begun..ended):", what,
                     sector, sector / 8, text);
  for (const Version& v : sectors_[sector]) {
    const std::string ended = v.ended == kNever ? "" : std::to_string(v.ended);
    text += fmt::format(" {} {}..{}{}{}{}", v.number, v.begun, ended, v.answered ? " answered" : "",
                        is_durable(v) ? " durable" : "", v.seen != kNever ? " seen;" : ";");
  }
  return text;
}

}  // namespace clonedev
