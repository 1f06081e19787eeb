// What a comparison of a clone with its origin has found: clonectl verify, check --deep.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "clonedev/extent.h"

namespace clonedev {

struct Verification {
  enum class State {
    none,  // Never asked for.
    running,
    equal,      // All that had to be equal is.
    different,  // Something is not; perhaps the end was not reached, see last_error.
    failed,     // Something could not be read, and what could is equal.
    stopped,    // Ended early, and what was compared is equal.
  };
  static constexpr std::size_t kMostRanges = 256;

  State state = State::none;
  std::uint64_t size_bytes = 0;
  std::uint64_t done_bytes = 0;  // So far from the beginning of the disk.
  std::uint64_t verified_bytes = 0;
  std::uint64_t mismatch_bytes = 0;    // In blocks of 4 KiB.
  std::uint64_t mismatch_ranges = 0;   // All that were found,
  std::vector<Extent> mismatches;      // and the first kMostRanges of them.
  std::uint64_t unreadable_bytes = 0;  // Of the origin or the destination.
  std::string last_error;

  // Not the origin's to tell: written or zeroed by a user, or not copied yet.
  std::uint64_t skipped_bytes() const {
    return done_bytes - verified_bytes - mismatch_bytes - unreadable_bytes;
  }
};

enum class VerifyAction { look, start, stop };

// One JSON object on one line (docs/control-protocol.md).
std::string verification_json(const Verification& verification);

}  // namespace clonedev
