// What has to happen when a fault meets an operation: the table, written down once. The matrix
// (fault_matrix_test.cc) runs every cell of it, and docs/faults.md shows it (print_fault_table).
//
//   a cell    a fault of one of the four things a clone consists of, and what it is doing meanwhile
//   a rule    a row of the table: covers cells, says what is expected of each and why
//
// Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "clonedev/error.h"

namespace clonedev {

enum class Target { origin, destination, metadata, live_map };
enum class Fault {
  read_error,
  write_error,     // Of everything that changes the device: writes, zeroing, flushes.
  no_space,        // The same with ENOSPC.
  short_transfer,  // The kernel moves less than it was asked for.
  stall,           // No answer, for long.
  corruption,      // The device gives back other bytes than it was given.
  disappearance,   // In use: nothing of it answers but with errors. At open: it is not there.
  change,          // Another one, or an older copy, is in its place.
};
enum class Activity {
  idle,           // No command; hydration and the periodic commit run.
  read,           // Of what the target holds.
  write_partial,  // 512 bytes of a block that only the origin has.
  write_aligned,  // A whole such block.
  overwrite,      // A block of the destination.
  discard,
  flush,   // FLUSH when no state has changed.
  commit,  // FLUSH when states of a user's writes are not durable.
  open,
  close,
};

inline constexpr std::size_t kTargets = 4;
inline constexpr std::size_t kFaults = 8;
inline constexpr std::size_t kActivities = 10;

struct Cell {
  Target target;
  Fault fault;
  Activity activity;
};

enum class Outcome {
  good,        // As without the fault.
  busy,        // BUSY in time; without any effect, now or later.
  fails,       // With Expectation::error.
  waits,       // For the device, however long; then good.
  unseen,      // Good; the bytes are those the device gives, and nobody can know better.
  refused,     // Open fails with Expectation::error and a sentence, and changes nothing.
  impossible,  // There is no such cell.
};

// How the matrix brings the fault about.
enum class Bed {
  none,    // Impossible ones.
  memory,  // The whole engine, metadata and live map on devices in memory, under virtual time.
  files,   // The whole CloneDevice on real files, in a process that is killed.
};

struct Expectation {
  Outcome outcome = Outcome::good;
  std::optional<Errc> error;
  // Mode is ro afterwards, needs_check is kept for the next process, and only the admin's
  // clear_needs_check leads back. Otherwise mode stays rw and the fault leaves nothing behind.
  bool needs_check = false;
  std::string_view why;
};

struct Rule {
  Target target;
  unsigned faults;      // Bits of Fault.
  unsigned activities;  // Bits of Activity.
  Bed bed;
  Expectation expected;

  bool covers(const Cell& cell) const;
};

std::span<const Rule> fault_rules();
// Null when no rule covers the cell. (That none is covered twice is for a test to see.)
const Rule* rule_of(const Cell& cell);
// "destination, write error, overwrite"
std::string name_of(const Cell& cell);

// The table for docs/faults.md, in Markdown; `seen_by_initiator` says what an error becomes.
using SeenByInitiator = std::string (*)(const Rule& rule);
std::string fault_table(SeenByInitiator seen);

}  // namespace clonedev
