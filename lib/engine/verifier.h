// Compares every block that is `copied` with the origin: its bytes have to be equal for as long as
// it has that state.
//
// An extent of the origin is read first, then the same one of the destination, then the states
// are looked at again, all without a claim. A write takes the state away before it changes a
// byte, and no block ever becomes `copied` again: what still is `copied` when both reads have ended
// was not touched while they ran. So there is no false alarm, and nobody waits for a comparison.
//
// A few extents are under way at a time; while users' commands are a load, one, with a pause about
// as long as it took. `rate_limit` holds, for it and hydration together. A verification whose
// result nobody asks for any more ends by itself after a minute.
//
// Units: blocks and bytes. Thread: one scheduler. Ownership: everything in Parts outlives it;
// stop() has ended before it is destroyed.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "clonedev/verification.h"
#include "core/state_map.h"
#include "core/token_bucket.h"
#include "engine/fetcher.h"
#include "io/block_device.h"

namespace clonedev {

class Verifier {
 public:
  struct Parts {
    Scheduler& scheduler;
    BlockDevice& destination;
    const StateMap& map;
    Fetcher& fetcher;
    OriginLink* origin;
    TokenBucket& limit;                       // `rate_limit`, of hydration too.
    std::function<bool()> busy;               // Users' commands are a load.
    std::function<void(Extent)> on_mismatch;  // Hears of each range that differs.
  };

  explicit Verifier(Parts parts) : parts_(std::move(parts)) {}

  // Begins at the beginning of the disk. Errc::refused while one is running.
  Result<> start();
  // What the last one has found so far.
  const Verification& look();
  // The one that is running ends soon, for this reason; it keeps what it has found.
  void cancel(const std::string& reason);
  // The same, and returns when nothing is under way; an origin that hangs must be closed meanwhile.
  Task<> stop(std::string reason);

 private:
  struct Finding {
    BlockRange blocks;
    std::uint64_t verified = 0;
    std::uint64_t unreadable = 0;
    std::vector<Extent> mismatches;
    Error error;         // Of the last thing that could not be read.
    bool fatal = false;  // The origin is away: there is no point in going on.
  };

  Task<> run();
  BlockRange next_extent() const;
  Task<> wait_for_turn(std::uint64_t bytes);
  std::size_t window() const;
  Task<Finding> check(BlockRange blocks);
  Task<Finding> check_halves(BlockRange blocks);
  Task<Result<Fetcher::Shared>> fetch(Extent extent);
  void compare(BlockRange blocks, std::span<const std::byte> origin,
               std::span<const std::byte> destination, Finding& finding) const;
  static void add_mismatch(std::vector<Extent>& mismatches, Extent extent);
  static void merge(Finding& into, Finding&& more);
  void take(Finding&& finding);
  void conclude();

  Parts parts_;
  Verification found_;
  std::uint64_t cursor_ = 0;
  bool ending_ = false;
  std::string why_;  // It ends before its time.
  bool failed_ = false;
  Scheduler::TimePoint asked_;
  Gate gate_;
};

}  // namespace clonedev
