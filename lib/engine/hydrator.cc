#include "engine/hydrator.h"

#include <algorithm>
#include <bit>

#include "core/log.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kExtentBytes = std::uint64_t{1} << 20;    // In a threshold that was given.
constexpr std::uint64_t kBatchesInFlight = 32;                    // Of a size that was given.
constexpr std::uint64_t kHoleBytes = std::uint64_t{1} << 30;      // A state change only.
constexpr std::uint64_t kZeroingBytes = std::uint64_t{16} << 20;  // Writers wait for it.
constexpr std::uint64_t kZeroingBytesUnderLoad = std::uint64_t{1} << 20;
constexpr std::uint64_t kAskBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kNeighbourhood = std::uint64_t{4} << 20;
constexpr auto kLookAgain = milliseconds(50);  // Whether the load has ended.
// The smaller, the more of them meet a command.
constexpr std::uint64_t kLargestUnderLoad = std::uint64_t{1} << 20;
constexpr double kLoad = Commands::kLoad;
constexpr auto kMissesMatter = milliseconds(1'000);
constexpr std::uint64_t kGoodputUnknown = std::uint64_t{1} << 30;
constexpr std::uint64_t kHighestMinRate = std::uint64_t{8} << 20;
constexpr std::uint64_t kPartsOfASecond = 8;  // An extent takes no larger one of its rate.
// Much of it may be waiting for memory behind commands; the link itself gives up much sooner.
constexpr auto kPatience = std::chrono::minutes(5);
constexpr auto kLookForOrigin = milliseconds(1'000);
constexpr auto kFirstPause = milliseconds(500);
constexpr auto kLongestPause = milliseconds(30'000);

Scheduler::Duration longer(Scheduler::Duration pause) {
  return std::clamp<Scheduler::Duration>(pause * 2, kFirstPause, kLongestPause);
}

}  // namespace

Hydrator::Hydrator(Parts parts, std::function<void()> on_drained)
    : parts_(std::move(parts)), on_drained_(std::move(on_drained)), pace_(parts_.memory) {}

void Hydrator::start() { spawn(run()); }

void Hydrator::halt(bool halted) {
  halted_ = halted;
  changed_.set();
}

Task<> Hydrator::stop() {
  stopping_ = true;
  changed_.set();
  while (!items_.idle()) co_await items_.wait_for_change();
}

void Hydrator::tune(const Tuning& tuning) {
  tuning_ = tuning;
  parts_.limit.set_rate(tuning.rate_limit, parts_.scheduler.now());
  changed_.set();
}

void Hydrator::nudge() {
  copied_.tick(parts_.scheduler.now());
  zeroed_.tick(parts_.scheduler.now());
  changed_.set();
}

void Hydrator::missed(Extent extent) {
  missed_at_ = parts_.scheduler.now();
  misses_.add(map().geometry().touched(extent), kNeighbourhood / kBlockSize);
}

std::uint64_t Hydrator::extent_blocks() const {
  const std::uint64_t region = map().geometry().region_size();
  std::uint64_t wanted = tuning_.threshold ? kExtentBytes : pace_.extent();
  if (tuning_.batch_size) wanted = tuning_.batch_size * region;
  if (chosen_here() && tuning_.rate_limit) {
    const std::uint64_t part = std::max(tuning_.rate_limit / kPartsOfASecond, kBlockSize);
    wanted = std::min(wanted, std::max(std::bit_floor(part), HydrationPace::kSmallestExtent));
  }
  if (chosen_here() && parts_.use() >= kLoad) {
    wanted = std::min(wanted, kLargestUnderLoad);
  }
  return std::clamp(wanted, kBlockSize, Fetcher::kLargest) / kBlockSize;
}

bool Hydrator::users_missed() const { return parts_.scheduler.now() < missed_at_ + kMissesMatter; }

std::uint64_t Hydrator::most_blocks_in_flight() const {
  const std::uint64_t region = map().geometry().region_size();
  const std::uint64_t window = users_missed() ? pace_.window_without_queue() : pace_.window();
  std::uint64_t wanted = window / kBlockSize;
  if (tuning_.batch_size) wanted = std::min(wanted, kBatchesInFlight * extent_blocks());
  if (tuning_.threshold) wanted = tuning_.threshold * region / kBlockSize;
  // More than the pool has for background work would only wait for memory.
  return std::clamp(wanted, std::uint64_t{1}, parts_.memory / kBlockSize);
}

std::uint32_t Hydrator::threshold() const {
  if (tuning_.threshold) return tuning_.threshold;
  const std::uint64_t regions = most_blocks_in_flight() / map().geometry().blocks_per_region();
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(regions, 1));
}

std::uint32_t Hydrator::batch_size() const {
  if (tuning_.batch_size) return tuning_.batch_size;
  const std::uint64_t regions = extent_blocks() / map().geometry().blocks_per_region();
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(regions, 1));
}

std::uint64_t Hydrator::regions_in_flight() const {
  return Geometry::divide_up(blocks_in_flight_, map().geometry().blocks_per_region());
}

std::uint64_t Hydrator::bytes_per_second() const {
  return copied_.bytes_per_second() + zeroed_.bytes_per_second();
}

std::uint64_t Hydrator::min_rate() const {
  std::uint64_t rate = tuning_.min_rate;
  if (rate == 0) {
    const std::uint64_t goodput = pace_.goodput();
    rate = goodput ? std::min(goodput / 10, kHighestMinRate) : kHighestMinRate;
  }
  return tuning_.rate_limit ? std::min(rate, tuning_.rate_limit) : rate;
}

std::optional<std::uint64_t> Hydrator::seconds_left() const {
  const bool moves = tuning_.enabled && !halted_ && held_up_by_.empty();
  const BlockCounts left = map().counts();
  const std::uint64_t copy = left.origin - std::min(known_holes(), left.origin);
  if (!moves || (copy > 0 && !parts_.origin->believed_alive())) return std::nullopt;
  const std::uint64_t copy_rate = copied_.bytes_per_second();
  const std::uint64_t zero_rate = zeroed_.bytes_per_second();
  if ((copy > 0 && copy_rate == 0) || (copy == 0 && left.zero > 0 && zero_rate == 0)) {
    return std::nullopt;
  }
  std::uint64_t seconds = copy > 0 ? Geometry::divide_up(copy * kBlockSize, copy_rate) : 0;
  // How fast it zeroes is not known before it does; mostly that takes next to no time.
  if (zero_rate > 0) seconds += Geometry::divide_up(left.zero * kBlockSize, zero_rate);
  return seconds;
}

// Behind the cursor they are `zero` already.
std::uint64_t Hydrator::known_holes() const {
  const Geometry& geometry = map().geometry();
  const std::uint64_t end = Geometry::divide_up(parts_.origin->size(), kBlockSize);
  std::uint64_t holes = geometry.blocks() - std::min(geometry.blocks(), std::max(end, cursor_));
  for (const OriginExtent& part : known_) {
    const BlockRange covered = geometry.covered(part.extent);
    const std::uint64_t first = std::max(covered.first, cursor_);
    if (part.zero && covered.end() > first) holes += covered.end() - first;
  }
  return holes;
}

Task<> Hydrator::run() {
  const Gate::Holder holder = items_.enter();
  while (!stopping_) {
    changed_.reset();
    if (!tuning_.enabled || halted_) {
      pace_.held_back();
      co_await changed_.wait();
      continue;
    }
    if (!has_room()) {
      co_await changed_.wait();
      continue;
    }
    if (parts_.scheduler.now() < held_until_) {
      pace_.held_back();
      co_await sit_out(held_until_);
      continue;
    }
    if (map().counts().origin > 0 && !parts_.origin->believed_alive()) {
      pace_.held_back();
      const auto look_again = parts_.scheduler.now() + kLookForOrigin;
      const bool back = co_await parts_.origin->wait_until_connected(look_again);
      if (!back) co_await changed_.wait_until(look_again);  // A closed link answers at once.
      continue;
    }
    if (const auto ready = turn(); ready > parts_.scheduler.now()) {
      co_await wait_for_turn(ready);
      continue;
    }
    const Item item = co_await pick();
    if (stopping_) break;
    if (item.blocks.empty()) {
      pace_.held_back();
      co_await end_of_pass();
      continue;
    }
    begin(item);
  }
}

void Hydrator::begin(const Item& item) {
  if (!item.near) cursor_ = item.blocks.end();
  pass_worked_ = true;
  if (item.kind == Kind::copy) {
    const std::uint64_t bytes = map().geometry().bytes(item.blocks).length;
    const auto now = parts_.scheduler.now();
    parts_.limit.take(bytes, now);
    if (parts_.use() >= kLoad) under_load_limit_.take(bytes, now);
  }
  spawn(do_item(item));
}

// ---- how much, and when ----

// One copy is enough to find out whether the destination takes something again.
bool Hydrator::has_room() {
  if (!held_up_by_.empty()) return blocks_in_flight_ == 0;
  if (landing_ > 0 && landing_ >= pace_.most_landing()) {
    pace_.held_back();
    return false;
  }
  if (users_missed()) pace_.queue_avoided();
  return blocks_in_flight_ < most_blocks_in_flight();
}

// When the next item may begin; in the past when nothing is against it.
Scheduler::TimePoint Hydrator::turn() {
  const auto now = parts_.scheduler.now();
  const double use = parts_.use();
  if (map().counts().origin == 0) {
    if (use < kLoad) return {};
    return blocks_in_flight_ > 0 ? now + kLookAgain : zeroing_rests_until_;
  }
  under_load_limit_.set_rate(rate_beside(use), now);
  const auto ready = use >= kLoad ? under_load_limit_.ready_at() : Scheduler::TimePoint{};
  return std::max(ready, parts_.limit.ready_at());
}

// Nearly nothing beside a client that always waits for something, and all of it - twice that, as it
// could be more than was ever measured - beside one that takes less than is a load.
std::uint64_t Hydrator::rate_beside(double use) const {
  const std::uint64_t all = pace_.goodput() ? pace_.goodput() : kGoodputUnknown;
  const double left = 2 * (1 - use) * (1 - use) * static_cast<double>(all);
  return std::max(min_rate(), static_cast<std::uint64_t>(left));
}

// The load may end meanwhile.
Task<> Hydrator::wait_for_turn(Scheduler::TimePoint ready) {
  pace_.held_back();
  const auto look_again = std::min(ready, parts_.scheduler.now() + kLookAgain);
  co_await changed_.wait_until(look_again);
}

// ---- what ----

// The next pass begins when every copy of this one has ended, so that no two ever meet.
Task<> Hydrator::end_of_pass() {
  if (blocks_in_flight_ > 0) {
    co_await changed_.wait();
    co_return;
  }
  const BlockCounts left = map().counts();
  if (left.origin == 0 && left.zero == 0) {
    on_drained_();
    co_await changed_.wait();
  } else if (pass_failed_ || !pass_worked_) {
    pause_ = longer(pause_);
    const auto until = parts_.scheduler.now() + pause_;
    co_await sit_out(until);
  } else {
    pause_ = {};
  }
  cursor_ = 0;
  pass_failed_ = false;
  pass_worked_ = false;
}

Task<> Hydrator::sit_out(Scheduler::TimePoint until) {
  while (!stopping_ && parts_.scheduler.now() < until) {
    changed_.reset();
    co_await changed_.wait_until(until);
  }
}

Hydrator::Item Hydrator::zeroing_item() {
  BlockRange zero = map().find({cursor_, map().geometry().blocks() - cursor_}, BlockState::zero);
  const std::uint64_t most = parts_.use() >= kLoad ? kZeroingBytesUnderLoad : kZeroingBytes;
  zero.count = std::min(zero.count, most / kBlockSize);
  return {zero, Kind::zeroing, false};
}

Task<Hydrator::Item> Hydrator::pick() {
  if (map().counts().origin == 0) co_return zeroing_item();
  const Geometry& geometry = map().geometry();
  BlockRange blocks = misses_.take(map(), extent_blocks());
  const bool near = !blocks.empty();
  if (!near) blocks = map().find({cursor_, geometry.blocks() - cursor_}, BlockState::origin);
  if (blocks.empty()) co_return Item{};
  Known beside;
  Known& known = near ? beside : known_;
  const std::uint64_t ask = near ? kNeighbourhood : kAskBytes;
  const bool hole = co_await origin_says_hole(blocks, ask, known);
  if (hole) {
    blocks.count = std::min(blocks.count, kHoleBytes / kBlockSize);
    co_return Item{blocks, Kind::hole, near};
  }
  // Copies end at multiples of their size, so that regions are finished.
  const std::uint64_t size = extent_blocks();
  blocks.count = std::min(blocks.count, size - blocks.first % size);
  if (tuning_.threshold) {
    // It may have been lowered while the origin was asked.
    const std::uint64_t most = std::max(most_blocks_in_flight(), blocks_in_flight_ + 1);
    blocks.count = std::min(blocks.count, most - blocks_in_flight_);
  }
  // What a command is fetching is not fetched again.
  blocks = geometry.touched(parts_.fetcher.first_part(geometry.bytes(blocks)));
  co_return Item{blocks, Kind::copy, near};
}

// Whether the blocks, cut to what is known alike, are a hole of the origin. Past its end all is.
// Where nothing is known of them, it is asked about so many bytes, and that is what is known then.
Task<bool> Hydrator::origin_says_hole(BlockRange& blocks, std::uint64_t ask, Known& known) {
  const Geometry& geometry = map().geometry();
  const Extent wanted = geometry.bytes(blocks);
  const std::uint64_t end = parts_.origin->size();
  if (wanted.offset >= end) co_return true;
  const auto tells = [&](const Known& of) {
    return !of.empty() && wanted.offset >= of.front().extent.offset &&
           wanted.offset < of.back().extent.end();
  };
  if (!tells(known_)) {
    const Extent range = intersect({wanted.offset, ask}, {0, end});
    const auto give_up = parts_.scheduler.now() + kPatience;
    auto answer = co_await parts_.origin->extents(range, give_up);
    known.clear();
    if (answer) known = std::move(*answer);
    if (known.empty()) known.push_back({{wanted.offset, kExtentBytes}, false});
  }
  for (const OriginExtent& part : tells(known_) ? known_ : known) {
    if (wanted.offset >= part.extent.end()) continue;
    // Only whole blocks are holes; a block that is one in part is data.
    const BlockRange covered = geometry.covered(part.extent);
    const bool hole = part.zero && !covered.empty() && covered.first <= blocks.first &&
                      covered.end() > blocks.first;
    const std::uint64_t stop =
        hole ? covered.end() : Geometry::divide_up(part.extent.end(), kBlockSize);
    blocks.count = std::clamp<std::uint64_t>(stop - blocks.first, 1, blocks.count);
    co_return hole;
  }
  co_return false;
}

Task<> Hydrator::do_item(Item item) {
  const Gate::Holder holder = items_.enter();
  blocks_in_flight_ += item.blocks.count;
  Result<> outcome;
  switch (item.kind) {
    case Kind::copy:
      outcome = co_await copy(item.blocks);
      break;
    case Kind::hole:
      outcome = co_await mark_hole(item.blocks);
      account(outcome);
      break;
    case Kind::zeroing:
      outcome = co_await zero_in_turn(item.blocks);
      break;
  }
  if (!outcome) pass_failed_ = true;
  blocks_in_flight_ -= item.blocks.count;
  changed_.set();
}

bool Hydrator::takes_copies() const {
  return !halted_ && !stopping_ && parts_.scheduler.now() >= held_until_;
}

void Hydrator::note(const Result<>& outcome, const Copier::Kept& kept) {
  if (kept.written) go_on();
  copied_.add(kept.bytes);
  account(outcome);
}

void Hydrator::account(const Result<>& outcome) {
  if (outcome) return;
  const std::error_code code = outcome.error().code;
  if (code == Errc::destination_write || code == Errc::no_space || code == Errc::live_map_full) {
    ++errors_.destination;
    hold_up(outcome.error());
  }
}

// Those under way when the first one failed may fail too: one pause for all of them.
void Hydrator::hold_up(const Error& error) {
  if (held_up_by_.empty()) log_line(LOG_ERR, "hydration is held up: {}", error.message());
  held_up_by_ = error.message();
  if (parts_.scheduler.now() < held_until_) return;
  hold_ = longer(hold_);
  held_until_ = parts_.scheduler.now() + hold_;
}

// The destination has taken something.
void Hydrator::go_on() {
  if (held_up_by_.empty()) return;
  log_line(LOG_NOTICE, "hydration goes on");
  held_up_by_.clear();
  hold_ = {};
}

Task<Result<>> Hydrator::copy(BlockRange blocks) {
  const Extent extent = map().geometry().bytes(blocks);
  const bool own = !parts_.fetcher.shares(extent);
  const auto began = parts_.scheduler.now();
  const auto give_up = began + kPatience;
  auto fetched = co_await parts_.fetcher.get(extent, BufferPool::Use::background, give_up);
  if (fetched) {
    if (own) pace_.read_ended(began, parts_.scheduler.now(), extent.length);
    (*fetched)->kept = true;
    Copier::Kept kept;
    const auto outcome = co_await land(blocks, **fetched, kept);
    note(outcome, kept);
    co_return outcome;
  }
  const Error error = fetched.error();
  if (error.code != Errc::origin_read) co_return fail(error);
  if (blocks.count == 1) {
    ++errors_.origin_read;
    log_line(LOG_ERR, "hydration: {}", error.message());
    co_return fail(error);
  }
  const std::uint64_t half = blocks.count / 2;
  auto first = co_await copy({blocks.first, half});
  if (stopping_) co_return fail(error);
  auto second = co_await copy({blocks.first + half, blocks.count - half});
  co_return first ? second : first;
}

Task<Result<>> Hydrator::land(BlockRange blocks, const Fetcher::Fetched& fetched,
                              Copier::Kept& kept) {
  // The disk may have grown since: what was read ends where it ended. Growing has seen to that
  // block.
  const Extent there = intersect(map().geometry().bytes(blocks), fetched.extent);
  const std::span<const std::byte> data = fetched.bytes(there);
  const auto began = parts_.scheduler.now();
  landing_ += data.size();
  const auto outcome = co_await parts_.copier.keep(blocks, data, kept);
  landing_ -= data.size();
  if (kept.written) pace_.write_ended(began, parts_.scheduler.now(), kept.bytes);
  co_return outcome;
}

Task<Result<>> Hydrator::mark_hole(BlockRange blocks) {
  const Extent extent = map().geometry().bytes(blocks);
  const InFlight::Entry claim = co_await parts_.in_flight.acquire(extent);
  BlockRange left = blocks;
  while (!left.empty()) {
    const StateRun run = map().run(left);
    if (run.state == BlockState::origin &&
        !parts_.metadata.set(run.blocks, BlockState::zero, Cause::copied)) {
      co_return fail(live_map_full());
    }
    left = {run.blocks.end(), left.end() - run.blocks.end()};
  }
  co_return Result<>{};
}

Task<Result<>> Hydrator::zero_in_turn(BlockRange blocks) {
  const auto began = parts_.scheduler.now();
  const auto outcome = co_await make_plain(blocks);
  account(outcome);
  const auto now = parts_.scheduler.now();
  zeroing_rests_until_ = now + (now - began);
  co_return outcome;
}

// Under the claim: explicit zeroes where the state says zero, then the destination counts (I8).
Task<Result<>> Hydrator::make_plain(BlockRange blocks) {
  const Geometry& geometry = map().geometry();
  const InFlight::Entry claim = co_await parts_.in_flight.acquire(geometry.bytes(blocks));
  BlockRange left = blocks;
  while (!left.empty()) {
    const StateRun run = map().run(left);
    left = {run.blocks.end(), left.end() - run.blocks.end()};
    if (run.state != BlockState::zero) continue;
    const auto room = parts_.metadata.make_room(run.blocks);
    if (!room) co_return fail(live_map_full());
    auto zeroed = co_await parts_.destination.zero(geometry.bytes(run.blocks), tuning_.deallocate);
    if (!zeroed) co_return zeroed;
    go_on();
    parts_.metadata.set(*room, run.blocks, BlockState::destination, Cause::copied);
    zeroed_.add(geometry.bytes(run.blocks).length);
  }
  co_return Result<>{};
}

}  // namespace clonedev
