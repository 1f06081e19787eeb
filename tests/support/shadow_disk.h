// What a disk may show, sector by sector, while many requests overlap and the machine may die.
//
// Every change of a sector is kept until a later one has certainly replaced it: one that began
// after the first had ended. "Certainly" depends on who asks:
//
//   a reader, or the next process after a kill   the later change was answered, or somebody has
//                                                seen it: what was visible never changes back
//   after a power cut                            it was answered and is durable: with FUA, or by
//                                                a flush that began later and ended well
//
// So overlapping changes leave either content, and so do those that failed half-way (perhaps()).
// A complaint is a sentence; an empty string is none.
//
// Units: bytes, multiples of 512. Time: a counter of events. Thread: one.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "clonedev/extent.h"
#include "support/clone_rig.h"

namespace clonedev {

class ShadowDisk {
 public:
  using Time = std::uint64_t;
  // Names a content of the whole disk; a change takes its extent of that.
  using Number = std::uint64_t;
  static constexpr Number kZero = 0;
  static constexpr Number kOrigin = 1;

  struct Change {
    Extent extent;
    Number number = kZero;
    Time begun = 0;
  };

  explicit ShadowDisk(Bytes origin);

  std::uint64_t size() const { return origin_.size(); }
  Time now() { return ++clock_; }
  Number fresh_number() { return ++last_number_; }
  Bytes bytes(Number number, Extent extent) const;

  Change begin(Extent extent, Number number);
  void done(const Change& change, bool durable);
  void perhaps(const Change& change);
  // Complains when somebody has seen it.
  std::string undone(const Change& change);
  void flushed(Time begun);

  Time begin_read();
  // `found` may be empty: the read failed. Otherwise judged.
  std::string end_read(Time begun, Extent extent, const Bytes& found);
  // Some content that the extent may have now.
  Bytes guess(Extent extent) const;
  // The content it had all the time since, when there is only one, `own` apart.
  std::optional<Bytes> settled(Extent extent, const Change& own) const;

  // Whether the next process may find these 512 bytes in the sector.
  enum class Death { kill, power_cut };
  bool may_find(Death how, std::uint64_t sector, const std::byte* content) const;

  // `what`, then what `found` looks like and all that is known of the sector.
  std::string complaint(const std::string& what, std::uint64_t sector,
                        const std::byte* found) const;
  // A new process found this. What was under way is forgotten.
  std::string killed(const Bytes& found);
  std::string power_cut(const Bytes& found);

 private:
  static constexpr std::uint64_t kSector = 512;
  static constexpr Time kNever = ~Time{0};

  struct Version {
    Number number;
    Time begun;
    Time ended = kNever;
    bool answered = false;
    bool durable = false;
    Time seen = kNever;
  };
  using Versions = std::vector<Version>;

  const Version* find_after(Death how, std::uint64_t sector, const std::byte* content) const;
  static bool visible_before(const Version& version, Time time);
  bool is_durable(const Version& version) const;
  bool readable(const Versions& versions, const Version& version, Time since) const;
  bool survives(const Versions& versions, const Version& version) const;
  bool matches(Number number, std::uint64_t sector, const std::byte* found) const;
  void fill(Number number, std::uint64_t sector, std::byte* to) const;
  void end(const Change& change, bool answered, bool durable);
  void prune(Versions& versions);
  Version* find(std::uint64_t sector, const Change& change);

  Bytes origin_;
  std::vector<Versions> sectors_;
  Time clock_ = 0;
  Time flushed_ = 0;  // What was answered before is durable.
  Number last_number_ = kOrigin;
  std::set<Time> under_way_;  // When requests that have not ended began.
};

}  // namespace clonedev
