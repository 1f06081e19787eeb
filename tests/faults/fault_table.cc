#include "faults/fault_table.h"

#include <fmt/format.h>

#include <array>
#include <bit>

namespace clonedev {
namespace {

constexpr std::array<std::string_view, kTargets> kTargetNames{"origin", "destination", "metadata",
                                                              "live map"};
constexpr std::array<std::string_view, kFaults> kFaultNames{
    "read error", "write error", "no space",      "short transfer",
    "stall",      "corruption",  "disappearance", "change"};
constexpr std::array<std::string_view, kActivities> kActivityNames{
    "idle",    "read",  "partial write", "aligned write", "overwrite",
    "discard", "flush", "commit",        "open",          "close"};

template <class... Names>
constexpr unsigned bits(Names... names) {
  return (... | (1u << static_cast<unsigned>(names)));
}

using enum Fault;
using enum Activity;

constexpr unsigned kAll = (1u << kActivities) - 1;
constexpr unsigned kButOpen = kAll & ~bits(open);
constexpr unsigned kWrites = bits(write_partial, write_aligned, overwrite);
constexpr unsigned kOriginNeeded = bits(read, write_partial);
constexpr unsigned kOriginNotNeeded = kAll & ~kOriginNeeded & ~bits(idle) & ~bits(open);
constexpr unsigned kDurability = bits(flush, commit, close);

constexpr Expectation good(std::string_view why) { return {Outcome::good, {}, false, why}; }
constexpr Expectation good_but_needs_check(std::string_view why) {
  return {Outcome::good, {}, true, why};
}
constexpr Expectation fails(Errc error, std::string_view why) {
  return {Outcome::fails, error, false, why};
}
constexpr Expectation fails_for_good(Errc error, std::string_view why) {
  return {Outcome::fails, error, true, why};
}
constexpr Expectation refused(Errc error, std::string_view why) {
  return {Outcome::refused, error, false, why};
}
constexpr Expectation only(Outcome outcome, std::string_view why) {
  return {outcome, {}, false, why};
}

constexpr std::string_view kNeverReread =
    "metadata are read when the clone is opened and never again";
constexpr std::string_view kOnlyAtCommit = "metadata are written by commits only";
constexpr std::string_view kDescriptorStays =
    "what is in use is the file that was opened; its path is looked at when the clone is opened";
constexpr std::string_view kMapping =
    "the live map is memory of the daemon: there are no transfers that could end so";

constexpr Rule kRules[] = {
    // ---- origin ----
    {Target::origin, bits(read_error), bits(idle), Bed::memory,
     good("hydration finds the bad block by halving, copies its neighbours, counts the error and "
          "tries again later")},
    {Target::origin, bits(read_error), kOriginNeeded, Bed::memory,
     fails(Errc::origin_read, "after two more tries; nothing was written")},
    {Target::origin, bits(read_error, stall, disappearance), kOriginNotNeeded, Bed::memory,
     good("needs nothing of the origin; waits for it hold no claim, and close ends them")},
    {Target::origin, bits(read_error, stall, disappearance), bits(open), Bed::memory,
     good("a clone that is there opens without its origin and goes on connecting")},
    {Target::origin, bits(write_error, no_space), kAll, Bed::none,
     only(Outcome::impossible, "nothing writes to the origin: its interface has no way to")},
    {Target::origin, bits(short_transfer), kAll, Bed::files,
     good("the rest is read; an origin that ends before its size has changed, see there")},
    {Target::origin, bits(stall), kOriginNeeded, Bed::memory,
     only(Outcome::busy, "at origin_timeout; the origin's answer goes where nobody looks")},
    {Target::origin, bits(stall), bits(idle), Bed::memory,
     good("copies wait; nobody waits for them")},
    {Target::origin, bits(corruption), kOriginNeeded | bits(idle), Bed::memory,
     only(Outcome::unseen,
          "the origin's word is all there is; only its identity can be checked, "
          "when it is connected")},
    {Target::origin, bits(corruption), kOriginNotNeeded | bits(open), Bed::memory,
     good("reads nothing of the origin's content")},
    {Target::origin, bits(disappearance), kOriginNeeded, Bed::memory,
     only(Outcome::busy, "a second after the origin is known to be away")},
    {Target::origin, bits(disappearance), bits(idle), Bed::memory,
     good("hydration waits for the connection")},
    {Target::origin, bits(change), kOriginNeeded, Bed::memory,
     only(Outcome::busy,
          "size and identity are compared at every reconnect, before any other "
          "byte is believed; the status says `origin changed`")},
    {Target::origin, bits(change), kOriginNotNeeded | bits(idle), Bed::memory,
     good("needs nothing of the origin, and hydration copies nothing of another one")},
    {Target::origin, bits(change), bits(open), Bed::files,
     refused(Errc::foreign,
             "an origin that answers within a second is compared first; what else "
             "than the time of change is different is said")},

    // ---- destination ----
    {Target::destination, bits(read_error), bits(read), Bed::memory,
     fails(Errc::destination_read, "the blocks around are not touched by it")},
    {Target::destination, bits(read_error), kAll & ~bits(read), Bed::memory,
     good("reads nothing of the destination")},
    {Target::destination, bits(write_error, no_space), bits(read, open), Bed::memory,
     good("writes nothing to the destination")},
    {Target::destination, bits(write_error, disappearance), kWrites, Bed::memory,
     fails(Errc::destination_write, "sectors of the write are old or new; no state has changed")},
    {Target::destination, bits(no_space), bits(write_partial, write_aligned), Bed::files,
     fails(Errc::no_space, "as after a write error; goes on when there is space again")},
    {Target::destination, bits(no_space), bits(overwrite), Bed::memory,
     fails(Errc::no_space,
           "on thin devices and copy-on-write file systems; elsewhere it has its "
           "space")},
    {Target::destination, bits(write_error, no_space, disappearance), bits(discard), Bed::memory,
     good("the state says zero, whatever became of the space; a line in the log")},
    {Target::destination, bits(write_error, disappearance), kDurability, Bed::memory,
     fails_for_good(Errc::destination_write, "what a failed flush lost, no later one can promise")},
    {Target::destination, bits(no_space), kDurability, Bed::memory,
     fails_for_good(Errc::no_space,
                    "delayed allocation: the write was taken, its space was not "
                    "there")},
    {Target::destination, bits(write_error, no_space, disappearance), bits(idle), Bed::memory,
     good_but_needs_check("the periodic commit meets it; hydration halts")},
    {Target::destination, bits(short_transfer), kAll, Bed::files,
     good("the rest is transferred; where nothing more can be, that is an error")},
    {Target::destination, bits(stall), kAll & ~bits(idle, open), Bed::memory,
     only(Outcome::waits,
          "a command that uses the data area ends when its I/O has; close waits, "
          "and says so in the log; the status answers")},
    {Target::destination, bits(stall), bits(idle), Bed::memory,
     good("copies and the periodic commit wait; nobody waits for them")},
    {Target::destination, bits(stall), bits(open), Bed::files,
     only(Outcome::waits, "I/O of a killed daemon still holds the lock: up to 20 s, then refused")},
    {Target::destination, bits(corruption), bits(read), Bed::memory,
     only(Outcome::unseen, "data carry no checksum here: that is a file system's business")},
    {Target::destination, bits(corruption), kAll & ~bits(read), Bed::memory,
     good("reads nothing of the destination")},
    {Target::destination, bits(disappearance), bits(read), Bed::memory,
     fails(Errc::destination_read, "what the origin still has is read on")},
    {Target::destination, bits(disappearance), bits(open), Bed::files,
     refused(Errc::refused, "a known clone is never started afresh")},
    {Target::destination, bits(change), kButOpen, Bed::files, good(kDescriptorStays)},
    {Target::destination, bits(change), bits(open), Bed::files,
     refused(Errc::foreign, "the identity in the superblock is another one")},

    // ---- metadata ----
    {Target::metadata, bits(read_error, corruption), kButOpen, Bed::memory, good(kNeverReread)},
    {Target::metadata, bits(read_error), bits(open), Bed::memory,
     refused(Errc::metadata_io, "nothing is known without them")},
    {Target::metadata, bits(write_error, no_space, disappearance),
     bits(read, discard, flush) | kWrites, Bed::memory, good(kOnlyAtCommit)},
    {Target::metadata, bits(write_error, no_space, disappearance), bits(commit, close), Bed::memory,
     fails_for_good(Errc::metadata_io, "needs_check is kept in the live map, too")},
    {Target::metadata, bits(write_error, no_space, disappearance), bits(idle), Bed::memory,
     good_but_needs_check("the periodic commit meets it; hydration halts")},
    {Target::metadata, bits(write_error, no_space), bits(open), Bed::memory,
     refused(Errc::metadata_io,
             "who has the clone attached is written before anything else; "
             "space was reserved at creation, so only thin devices and "
             "copy-on-write file systems run out of it")},
    {Target::metadata, bits(short_transfer), kAll, Bed::files,
     good("the rest is transferred; where nothing more can be, that is an error")},
    {Target::metadata, bits(stall), bits(commit, close), Bed::memory,
     only(Outcome::waits, "reads and writes go on; close says in the log what it waits for")},
    {Target::metadata, bits(stall), kButOpen & ~bits(commit, close), Bed::memory,
     good(kOnlyAtCommit)},
    {Target::metadata, bits(stall), bits(open), Bed::files,
     only(Outcome::waits, "I/O of a killed daemon still holds the lock: up to 20 s, then refused")},
    {Target::metadata, bits(corruption), bits(open), Bed::memory,
     refused(Errc::damaged, "the superblock reaches every page by checksum")},
    {Target::metadata, bits(disappearance), bits(open), Bed::files,
     refused(Errc::refused, "a known clone is never started afresh")},
    {Target::metadata, bits(change), kButOpen, Bed::files, good(kDescriptorStays)},
    {Target::metadata, bits(change), bits(open), Bed::files,
     refused(Errc::refused,
             "an older copy has a lower sequence than this machine used last; "
             "another clone's has another uuid")},

    // ---- live map ----
    {Target::live_map, bits(read_error, write_error, short_transfer, stall), kAll, Bed::none,
     only(Outcome::impossible, kMapping)},
    {Target::live_map, bits(no_space), bits(write_partial, write_aligned, discard), Bed::memory,
     fails(Errc::live_map_full,
           "memory for states is taken before data are written, so nothing "
           "has changed; goes on when there is memory again")},
    {Target::live_map, bits(no_space), bits(idle, read, overwrite, flush, commit, close),
     Bed::memory, good("no state that needs new memory changes; hydration tries again later")},
    {Target::live_map, bits(no_space), bits(open), Bed::memory,
     refused(Errc::live_map_full,
             "after a clean close or a power cut; after a kill the one that "
             "is there has its memory")},
    {Target::live_map, bits(corruption), kButOpen, Bed::none,
     only(Outcome::impossible,
          "the same as stray stores into the daemon's own memory; the file is "
          "0600 in a folder of 0700")},
    {Target::live_map, bits(corruption), bits(open), Bed::memory,
     refused(Errc::refused,
             "header and kinds of pages are checked before they are adopted; "
             "states in it have no checksum, as no memory of the daemon has")},
    {Target::live_map, bits(disappearance, change), kButOpen, Bed::memory,
     good("the mapping stays; only a kill makes the file necessary")},
    {Target::live_map, bits(disappearance, change), bits(open), Bed::memory,
     refused(Errc::refused, "after a kill: writes that were acknowledged may be in it alone")},
};

std::string names(unsigned mask, std::span<const std::string_view> all) {
  std::string text;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!(mask & (1u << i))) continue;
    if (!text.empty()) text += ", ";
    text += all[i];
  }
  return text;
}

std::string activities(unsigned mask) {
  const unsigned rest = kAll & ~mask;
  if (rest == 0) return "all";
  if (std::popcount(rest) <= 2) return "all but " + names(rest, kActivityNames);
  return names(mask, kActivityNames);
}

}  // namespace

bool Rule::covers(const Cell& cell) const {
  return target == cell.target && (faults & bits(cell.fault)) != 0 &&
         (activities & bits(cell.activity)) != 0;
}

std::span<const Rule> fault_rules() { return kRules; }

const Rule* rule_of(const Cell& cell) {
  for (const Rule& rule : kRules) {
    if (rule.covers(cell)) return &rule;
  }
  return nullptr;
}

std::string name_of(const Cell& cell) {
  return fmt::format("{}, {}, {}", kTargetNames[static_cast<std::size_t>(cell.target)],
                     kFaultNames[static_cast<std::size_t>(cell.fault)],
                     kActivityNames[static_cast<std::size_t>(cell.activity)]);
}

std::string fault_table(SeenByInitiator seen) {
  std::string text;
  for (std::size_t target = 0; target < kTargets; ++target) {
    text += fmt::format(
        "### {}\n\n| fault | while | the initiator sees | mode, needs_check | |\n"
        "|---|---|---|---|---|\n",
        kTargetNames[target]);
    for (const Rule& rule : kRules) {
      if (rule.target != static_cast<Target>(target)) continue;
      const bool no_lun =
          rule.expected.outcome == Outcome::impossible || rule.expected.outcome == Outcome::refused;
      text += fmt::format("| {} | {} | {} | {} | {} |\n", names(rule.faults, kFaultNames),
                          activities(rule.activities), seen(rule),
                          no_lun                      ? "-"
                          : rule.expected.needs_check ? "ro, yes"
                                                      : "rw, no",
                          rule.expected.why);
    }
    text += '\n';
  }
  text.pop_back();
  return text;
}

}  // namespace clonedev
