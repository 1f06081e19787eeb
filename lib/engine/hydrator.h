// Drives every block to `destination` behind the user's back: copies what only the origin has and
// turns `zero` into real zeroes, so that the destination ends as a plain image.
//
// A copy reads the origin first, holding nothing; then claims its range, looks at every block
// again, writes only what is still the origin's, marks it and lets go (I6). Holes of the origin
// are never read. What follows the latest misses of users comes first; beside that, passes run over
// the disk in ascending order. How much is in flight is measured (core/hydration_pace.h). What
// failed is left to the next pass, after a pause that grows. A sector that the origin cannot read
// is isolated by halving, so its neighbours are copied.
//
// `rate_limit` bounds what is read from the origin, always. Users come first: the more of the time
// their commands take, from a quarter on, the less is left, down to `min_rate`, so that they hardly
// notice, and the end comes all the same; and while they miss, no queue is kept in the link.
// Zeroing then goes one piece at a time, with pauses as long as a piece took. While the destination
// takes nothing - it is full, or broken - nothing is read for it either: hydration is *held up*,
// and tries again with one extent at a time after pauses that grow.
//
// Units: blocks. Thread: one scheduler.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/hydration_pace.h"
#include "core/recent_misses.h"
#include "core/token_bucket.h"
#include "engine/commands.h"
#include "engine/copier.h"
#include "engine/fetcher.h"
#include "engine/rate_meter.h"
#include "io/block_device.h"
#include "io/in_flight.h"
#include "metadata/metadata_store.h"

namespace clonedev {

class Hydrator {
 public:
  struct Parts {
    Scheduler& scheduler;
    BlockDevice& destination;
    MetadataStore& metadata;
    InFlight& in_flight;
    Fetcher& fetcher;
    Copier& copier;
    OriginLink* origin;
    TokenBucket& limit;           // `rate_limit`, which others keep too.
    std::uint64_t memory;         // Bytes that may be in flight.
    std::function<double()> use;  // By users' commands: the share of the time, 0..1.
  };
  // dm-clone's knobs, in regions; 0 = chosen here.
  struct Tuning {
    bool enabled = true;
    std::uint32_t threshold = 0;
    std::uint32_t batch_size = 0;
    std::uint64_t rate_limit = 0;  // Bytes a second; 0: none.
    std::uint64_t min_rate = 0;    // Bytes a second; 0: chosen here.
    bool deallocate = true;  // `zero` becomes holes where the destination can; off: it stays thick.
  };
  struct Errors {
    std::uint64_t origin_read = 0;
    std::uint64_t destination = 0;
  };

  // `on_drained`: no block is left to do, as far as the hydrator can see.
  Hydrator(Parts parts, std::function<void()> on_drained);

  void start();
  // Begins nothing new from this call on; ends when nothing of it is under way, which for reads
  // from an origin that does not answer takes its close().
  Task<> stop();
  void tune(const Tuning& tuning);
  const Tuning& tuning() const { return tuning_; }
  // While something failed for good nothing new is begun (I10).
  void halt(bool halted);
  // Whether it is worth trying to keep something on the destination now.
  bool takes_copies() const;
  // The end of a copy, its own or another's.
  void note(const Result<>& outcome, const Copier::Kept& kept);
  // A user has read what only the origin has.
  void missed(Extent extent);
  // Look again: states or knobs changed. Called at least once a second.
  void nudge();

  // Effective numbers, in regions.
  std::uint32_t threshold() const;
  std::uint32_t batch_size() const;
  std::uint64_t regions_in_flight() const;
  std::uint64_t bytes_per_second() const;
  // Of all that has to be copied or zeroed; nothing: it is paused, or nobody can say.
  std::optional<std::uint64_t> seconds_left() const;
  // Effective, in bytes a second.
  std::uint64_t min_rate() const;
  const Errors& errors() const { return errors_; }
  // Why the destination takes no copies at the moment; empty: it does.
  const std::string& held_up_by() const { return held_up_by_; }

 private:
  enum class Kind { copy, hole, zeroing };
  struct Item {
    BlockRange blocks;
    Kind kind = Kind::copy;
    bool near = false;  // Behind a miss, not where the pass is.
  };

  // What the origin said of a part of it.
  using Known = std::vector<OriginExtent>;

  Task<> run();
  Task<> end_of_pass();
  Task<> sit_out(Scheduler::TimePoint until);
  Task<> wait_for_turn(Scheduler::TimePoint ready);
  bool has_room();
  Scheduler::TimePoint turn();
  std::uint64_t rate_beside(double use) const;
  bool chosen_here() const { return tuning_.threshold == 0 && tuning_.batch_size == 0; }
  Task<Item> pick();
  Item zeroing_item();
  Task<bool> origin_says_hole(BlockRange& blocks, std::uint64_t ask, Known& known);
  void begin(const Item& item);
  Task<> do_item(Item item);
  Task<Result<>> copy(BlockRange blocks);
  Task<Result<>> land(BlockRange blocks, const Fetcher::Fetched& fetched, Copier::Kept& kept);
  Task<Result<>> zero_in_turn(BlockRange blocks);
  Task<Result<>> mark_hole(BlockRange blocks);
  Task<Result<>> make_plain(BlockRange blocks);
  void account(const Result<>& outcome);
  void hold_up(const Error& error);
  void go_on();
  bool users_missed() const;
  std::uint64_t extent_blocks() const;
  std::uint64_t most_blocks_in_flight() const;
  std::uint64_t known_holes() const;
  const StateMap& map() const { return parts_.metadata.map(); }

  Parts parts_;
  std::function<void()> on_drained_;
  Tuning tuning_;
  Event changed_;
  Gate items_;
  bool halted_ = false;
  bool stopping_ = false;
  std::uint64_t cursor_ = 0;
  std::uint64_t blocks_in_flight_ = 0;
  bool pass_failed_ = false;
  bool pass_worked_ = false;
  Scheduler::Duration pause_{};
  std::string held_up_by_;
  Scheduler::Duration hold_{};
  Scheduler::TimePoint held_until_{};
  Known known_;  // Around the cursor.
  RecentMisses misses_;
  Scheduler::TimePoint missed_at_{};
  HydrationPace pace_;
  std::uint64_t landing_ = 0;  // Bytes that wait for the destination.
  TokenBucket under_load_limit_;
  Scheduler::TimePoint zeroing_rests_until_{};
  RateMeter copied_;
  RateMeter zeroed_;
  Errors errors_;
};

}  // namespace clonedev
