// Every content that a disk may have after a power cut at this instant: each subset of the
// sectors of 512 bytes that were not flushed, each version of those written more than once, and,
// where units may be lost, each 4 KiB with a sector under way full of garbage instead.
//
// All of them when they are few (kComplete); else a family: none, all, each single version of each
// sector, all but one, what was written up to each moment, each single unit lost with none and
// with all of the rest, and samples by seed.
//
// Thread: one. The disk does not change while it is looked at.
#pragma once

#include <functional>
#include <random>
#include <vector>

#include "support/volatile_device.h"

namespace clonedev {

class CrashImages {
 public:
  static constexpr std::uint64_t kComplete = 1024;
  static constexpr unsigned kSamples = 64;
  using Visit = std::function<void(const MemoryDevice&)>;

  CrashImages(const VolatileDevice& disk, bool lose_units);

  // How many there are; the same content may come more than once only when one is garbage.
  double count() const { return count_; }
  bool complete() const { return count_ <= static_cast<double>(kComplete); }
  // Returns how many it has shown.
  std::uint64_t each(std::uint64_t seed, const Visit& visit) const;

 private:
  // What becomes of a sector: 0 it keeps its durable content, n the n-th content under way.
  using Choice = std::vector<std::size_t>;
  struct Unit {
    std::uint64_t number;
    std::size_t first, end;  // Its sectors under way.
  };
  static constexpr std::uint64_t kUnit = 4096;

  MemoryDevice image(const Choice& choice, const std::vector<bool>& lost) const;
  std::uint64_t all(const Visit& visit) const;
  bool next(Choice& choice, std::vector<bool>& lost) const;
  std::uint64_t family(std::uint64_t seed, const Visit& visit) const;
  Choice newest_before(std::uint64_t time) const;

  const MemoryDevice& durable_;
  std::vector<VolatileDevice::Unflushed> sectors_;
  std::vector<Unit> units_;
  bool lose_units_;
  double count_ = 1;
};

}  // namespace clonedev
