#include "engine/hydrator.h"

#include <algorithm>

#include "core/log.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kExtentBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kExtentsInFlight = 24;
constexpr std::uint64_t kMostBytesInFlight = std::uint64_t{48} << 20;
constexpr std::uint64_t kHoleBytes = std::uint64_t{1} << 30;      // A state change only.
constexpr std::uint64_t kZeroingBytes = std::uint64_t{16} << 20;  // Writers wait for it.
constexpr std::uint64_t kAskBytes = std::uint64_t{1} << 30;
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
    : parts_(parts), on_drained_(std::move(on_drained)) {}

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
  changed_.set();
}

void Hydrator::nudge() {
  rate_.tick(parts_.scheduler.now());
  changed_.set();
}

std::uint64_t Hydrator::extent_blocks() const {
  const std::uint64_t region = map().geometry().region_size();
  const std::uint64_t wanted = tuning_.batch_size ? tuning_.batch_size * region : kExtentBytes;
  return std::clamp(wanted, kBlockSize, Fetcher::kLargest) / kBlockSize;
}

std::uint64_t Hydrator::most_blocks_in_flight() const {
  const std::uint64_t region = map().geometry().region_size();
  const std::uint64_t wanted = tuning_.threshold ? tuning_.threshold * region / kBlockSize
                                                 : kExtentsInFlight * extent_blocks();
  // More than the pool has for background work would only wait for memory.
  return std::clamp(wanted, std::uint64_t{1}, kMostBytesInFlight / kBlockSize);
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

Task<> Hydrator::run() {
  const Gate::Holder holder = items_.enter();
  while (!stopping_) {
    changed_.reset();
    // One copy is enough to find out whether the destination takes something again.
    const std::uint64_t most = held_up_by_.empty() ? most_blocks_in_flight() : 1;
    if (!tuning_.enabled || halted_ || blocks_in_flight_ >= most) {
      co_await changed_.wait();
      continue;
    }
    if (parts_.scheduler.now() < held_until_) {
      co_await sit_out(held_until_);
      continue;
    }
    if (map().counts().origin > 0 && !parts_.origin->believed_alive()) {
      const auto look_again = parts_.scheduler.now() + kLookForOrigin;
      const bool back = co_await parts_.origin->wait_until_connected(look_again);
      if (!back) co_await changed_.wait_until(look_again);  // A closed link answers at once.
      continue;
    }
    const Item item = co_await pick();
    if (stopping_) break;
    if (item.blocks.empty()) {
      co_await end_of_pass();
      continue;
    }
    cursor_ = item.blocks.end();
    pass_worked_ = true;
    spawn(do_item(item));
  }
}

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

Task<Hydrator::Item> Hydrator::pick() {
  const Geometry& geometry = map().geometry();
  const BlockRange rest{cursor_, geometry.blocks() - cursor_};
  if (map().counts().origin == 0) {
    BlockRange zero = map().find(rest, BlockState::zero);
    zero.count = std::min(zero.count, kZeroingBytes / kBlockSize);
    co_return Item{zero, Kind::zeroing};
  }
  BlockRange blocks = map().find(rest, BlockState::origin);
  if (blocks.empty()) co_return Item{};
  const bool hole = co_await origin_says_hole(blocks);
  // The threshold may have been lowered while the origin was asked.
  const std::uint64_t room =
      std::max(most_blocks_in_flight(), blocks_in_flight_ + 1) - blocks_in_flight_;
  const std::uint64_t most = hole ? kHoleBytes / kBlockSize : std::min(extent_blocks(), room);
  blocks.count = std::min(blocks.count, most);
  // What a command is fetching is not fetched again.
  if (!hole) blocks = geometry.touched(parts_.fetcher.first_part(geometry.bytes(blocks)));
  co_return Item{blocks, hole ? Kind::hole : Kind::copy};
}

// Whether the blocks, cut to what is known alike, are a hole of the origin. Past its end all is.
Task<bool> Hydrator::origin_says_hole(BlockRange& blocks) {
  const Geometry& geometry = map().geometry();
  const Extent wanted = geometry.bytes(blocks);
  const std::uint64_t end = parts_.origin->size();
  if (wanted.offset >= end) co_return true;
  if (known_.empty() || wanted.offset < known_.front().extent.offset ||
      wanted.offset >= known_.back().extent.end()) {
    const Extent ask = intersect({wanted.offset, kAskBytes}, {0, end});
    const auto give_up = parts_.scheduler.now() + kPatience;
    auto answer = co_await parts_.origin->extents(ask, give_up);
    known_.clear();
    if (answer) known_ = std::move(*answer);
    if (known_.empty()) known_.push_back({{wanted.offset, kExtentBytes}, false});
  }
  for (const OriginExtent& part : known_) {
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
      outcome = co_await make_plain(item.blocks);
      account(outcome);
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
  rate_.add(kept.bytes);
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
  const auto give_up = parts_.scheduler.now() + kPatience;
  auto fetched = co_await parts_.fetcher.get(extent, BufferPool::Use::background, give_up);
  if (fetched) {
    (*fetched)->kept = true;
    Copier::Kept kept;
    const std::span<std::byte> data = (*fetched)->bytes(extent);
    const auto outcome = co_await parts_.copier.keep(blocks, data, kept);
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
    rate_.add(geometry.bytes(run.blocks).length);
  }
  co_return Result<>{};
}

}  // namespace clonedev
