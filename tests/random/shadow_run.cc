#include "shadow_run.h"

#include <fmt/format.h>

#include <utility>

#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

constexpr ShadowDisk::Time kNever = ~ShadowDisk::Time{0};
constexpr auto kOriginTimeout = milliseconds(3000);

}  // namespace

ShadowRun::ShadowRun(std::uint64_t seed, Counts& counts)
    : counts_(counts), seed_(seed), random_(seed) {
  ++counts_.runs;
  make_disk();
}

ShadowRun::~ShadowRun() {
  if (stuck_) {  // What never ends cannot be taken down, and the failure shall be told.
    for (auto& life : lives_) (void)life.release();
    return;
  }
  while (!lives_.empty()) {
    Life& life = *lives_.back();
    life.over = life.stopping = true;
    CloneRig& last = *life.rig;
    last.destination->clear();
    last.metadata_device->clear();
    last.origin->hang = false;
    last.origin->released.wake_all();
    last.sim.run_until([&] { return life.clients == 0; });
    lives_.pop_back();
  }
}

void ShadowRun::complain(std::string text) {
  if (wrong_.empty()) wrong_ = std::move(text);
}

std::string ShadowRun::description() const {
  const Options& options = config_.options;
  return fmt::format(
      "seed {}: {} bytes, sectors {}, region_size {}, origin {} bytes, write_cache {}, outages {}, "
      "bad blocks {}, device faults {}, commit faults {}, life {}",
      seed_, config_.size, config_.sector_size, options.region_size, config_.origin_size,
      options.write_cache, traits_.outages, traits_.bad_blocks, traits_.device_faults,
      traits_.commit_faults, lives_.size());
}

void ShadowRun::make_disk() {
  config_.seed = seed_;
  config_.sector_size = chance(70) ? 512 : 4096;
  config_.size = (64 + roll(192)) * k4K;
  if (config_.sector_size == 512 && chance(50)) config_.size += (1 + roll(6)) * 512;
  config_.origin_size = config_.size;
  if (chance(25)) config_.origin_size = 1 + roll(config_.size - 1);
  if (chance(25)) config_.origin_size = config_.size + 1 + roll(100'000);
  static constexpr std::uint64_t kRegions[] = {4096, 65536, 1 << 20};
  config_.options.region_size = kRegions[roll(2)];
  config_.options.write_cache = chance(75);
  config_.options.discard_passdown = chance(50);
  config_.options.hydration = false;
  config_.options.origin_timeout_ms = kOriginTimeout.count();
  traits_ = {chance(35), chance(25), chance(30), chance(25)};

  auto first = std::make_unique<CloneRig>(config_);
  lives_.push_back(std::make_unique<Life>());
  lives_.back()->rig = std::move(first);
  make_holes();
  shadow_ = std::make_unique<ShadowDisk>(rig().origin_bytes({0, config_.size}));
}

// Some of the zeroes the origin tells of, some it does not.
void ShadowRun::make_holes() {
  if (chance(40)) return;
  MemoryOrigin::World& world = *rig().origin;
  const std::uint64_t end = world.content.size();
  for (std::uint64_t at = 0; at < end;) {
    const std::uint64_t length = std::min((1 + roll(400)) * 512, end - at);
    const bool zero = chance(40);
    const bool told = chance(70);
    if (zero)
      std::fill_n(world.content.begin() + static_cast<std::ptrdiff_t>(at), length, std::byte{0});
    world.extents.push_back({{at, length}, zero && told});
    at += length;
  }
}

// ---- what happens to a disk ----

std::string ShadowRun::run() {
  const std::uint64_t lives = 2 + roll(5);
  for (std::uint64_t i = 0; i < lives && wrong_.empty(); ++i) {
    live();
    if (!wrong_.empty()) break;
    const std::uint64_t fate = roll(99);
    if (mood_ != Mood::busy && fate < 80) {
      cut_power();
    } else if (fate < 40) {
      kill();
    } else if (fate < 80) {
      cut_power();
    } else if (fate < 90) {
      reopen();
    } else {
      hydrate_and_compare();
    }
  }
  if (wrong_.empty()) hydrate_and_compare();
  return wrong_;
}

void ShadowRun::live() {
  Life& life = *lives_.back();
  life.stopping = false;
  hot_block_ = roll(config_.size / k4K - 1);
  if (chance(80)) slow_down_devices();
  for (std::uint64_t troubles = roll(3); troubles > 0; --troubles) make_trouble();
  choose_mood();
  const std::uint64_t most = mood_ == Mood::busy ? 22 : mood_ == Mood::duel ? 1 : 0;
  for (std::uint64_t n = mood_ == Mood::calm ? 1 : 2 + roll(most); n > 0; --n) spawn(client(life));
  const std::uint64_t steps = 20 + roll(chance(70) ? 600 : 3000);
  for (std::uint64_t i = 0; i < steps && wrong_.empty(); ++i) {
    if (!life.rig->sim.step()) break;
    if (mood_ == Mood::busy && random_() % 60 == 0) make_trouble();
    // The moment when a promise has just been made is a good one to die.
    if (std::exchange(promised_, false) && chance(mood_ == Mood::busy ? 2 : 12)) break;
    if (i % 32 == 0) check_marks();
  }
  check_marks();
}

// A block that is `copied` has exactly the origin's bytes on the destination, at every instant.
void ShadowRun::check_marks() {
  const StateMap& map = rig().metadata().map();
  BlockRange run = map.find({0, map.geometry().blocks()}, BlockState::copied);
  const MemoryDevice present = rig().destination_disk->present();
  while (!run.empty()) {
    const Extent bytes = map.geometry().bytes(run);
    counts_.marks += run.count;
    if (present.bytes(bytes) != rig().origin_bytes(bytes)) {
      return complain(fmt::format("some of blocks {}..{} are `copied`, but differ from the origin",
                                  run.first, run.end() - 1));
    }
    run = map.find({run.end(), map.geometry().blocks() - run.end()}, BlockState::copied);
  }
  const auto verified = rig().engine().verify(VerifyAction::look);
  if (verified && verified->mismatch_ranges > 0) complain("a verification raises a false alarm");
}

void ShadowRun::choose_mood() {
  mood_ = chance(60) ? Mood::busy : chance(50) ? Mood::calm : Mood::duel;
  if (mood_ == Mood::busy) return;
  rig().origin->delay = milliseconds(5 + roll(20));
  config_.options.hydration = mood_ == Mood::calm;
  config_.options.hydration_threshold = 1;
  apply_options();
}

void ShadowRun::kill() {
  ++counts_.kills;
  std::unique_ptr<CloneRig> next = rig().kill();
  // A process takes no disk's cache with it.
  *next->destination_disk = *rig().destination_disk;
  *next->metadata_disk = *rig().metadata_disk;
  next->destination_disk->set_flush_time(next->sim, {});
  next->metadata_disk->set_flush_time(next->sim, {});
  const std::list<Request> ring = lives_.back()->pending;
  begin_life(std::move(next));
  if (!wrong_.empty()) return;
  const std::string complaint = shadow_->killed(look());
  if (!complaint.empty()) return complain(complaint);
  for (Request request : ring) {
    request.again = true;
    spawn(again(*lives_.back(), request));
  }
}

void ShadowRun::cut_power() {
  ++counts_.cuts;
  begin_life(rig().power_cut(random_(), chance(50)));
  if (!wrong_.empty()) return;
  if (rig().metadata().map().counts().copied > 0) complain("marks outlive a power cut");
  const std::string complaint = shadow_->power_cut(look());
  if (!complaint.empty()) complain(complaint);
}

void ShadowRun::begin_life(std::unique_ptr<CloneRig> next) {
  lives_.back()->over = lives_.back()->stopping = true;
  lives_.push_back(std::make_unique<Life>());
  lives_.back()->rig = std::move(next);
  const auto opened = rig().open();
  if (!opened) return complain("cannot be opened again: " + opened.error().message());
  know_whether_failed();
  apply_options();
}

void ShadowRun::know_whether_failed() {
  const bool failed = rig().engine().status().mode != CloneMode::rw;
  if (failed && commit_trouble_ == 0) complain("needs_check, but nothing had failed");
  commit_trouble_ = failed ? kNever : shadow_->now();
  read_only_until_ = failed ? kNever : 0;
}

// The whole disk, block by block; what the origin cannot read is its own.
Bytes ShadowRun::look() {
  rig().sim.run_for(milliseconds(10));
  check_marks();
  Bytes found;
  for (std::uint64_t at = 0; at < config_.size; at += k4K) {
    const Extent block{at, std::min(k4K, config_.size - at)};
    auto content = rig().read(block);
    if (!content && (rig().state(at / k4K) != BlockState::origin || !meets_bad_block(block))) {
      complain(fmt::format("block {} cannot be read: {}", at / k4K, content.error().message()));
    }
    const Bytes& bytes = content ? *content : rig().origin_bytes(block);
    found.insert(found.end(), bytes.begin(), bytes.end());
  }
  return found;
}

void ShadowRun::drain() {
  end_trouble();
  Life& life = *lives_.back();
  life.stopping = true;
  const auto patience = rig().sim.now() + std::chrono::minutes(1);
  rig().sim.run_until([&] { return life.clients == 0 || rig().sim.now() > patience; });
  if (life.clients == 0) return;
  std::string text = "requests never end:";
  for (const Request& request : life.pending) {
    text += fmt::format(" kind {} of {}+{};", static_cast<int>(request.kind), request.extent.offset,
                        request.extent.length);
  }
  complain(text);
  stuck_ = true;
}

void ShadowRun::reopen() {
  ++counts_.closes;
  drain();
  if (!wrong_.empty()) return;
  const Time begun = shadow_->now();
  const bool may_fail = commit_trouble_ == kNever;
  const auto closed = rig().close();
  if (closed) shadow_->flushed(begun);
  if (!closed && !may_fail) complain("close: " + closed.error().message());
  const auto opened = rig().open();
  if (!opened) return complain("cannot be opened after close: " + opened.error().message());
  know_whether_failed();
  check_marks();
  apply_options();
}

void ShadowRun::hydrate_and_compare() {
  ++counts_.images;
  drain();
  if (!wrong_.empty()) return;
  if (commit_trouble_ == kNever) {
    const auto cleared = rig().sim.run(rig().engine().clear_needs_check());
    if (!cleared) return complain("clear_needs_check: " + cleared.error().message());
    commit_trouble_ = shadow_->now();
    read_only_until_ = std::min(read_only_until_, shadow_->now());
  }
  const Time begun = shadow_->now();
  rig().hydrate_to_the_end();
  const auto flushed = rig().flush();
  if (!flushed) return complain("flush: " + flushed.error().message());
  shadow_->flushed(begun);
  const Extent whole{0, config_.size};
  const Time read = shadow_->begin_read();
  const Bytes image = rig().destination_disk->durable().bytes(whole);
  const std::string complaint = shadow_->end_read(read, whole, image);
  if (!complaint.empty()) complain("the finished image: " + complaint);
}

// ---- trouble ----

void ShadowRun::make_trouble() {
  switch (roll(6)) {
    case 0:
      config_.options.hydration = !config_.options.hydration;
      config_.options.hydration_threshold =
          chance(50) ? 0 : static_cast<std::uint32_t>(1 + roll(9));
      config_.options.hydration_batch_size =
          chance(50) ? 0 : static_cast<std::uint32_t>(1 + roll(9));
      config_.options.discard_passdown = chance(50);
      return apply_options();
    case 1:
    case 2:
      return make_origin_trouble();
    case 3:
      return slow_down_devices();
    case 4:
      return add_fault();
    case 5:
      counts_.verifications += rig().engine().verify(VerifyAction::start).has_value();
      return;
    default:
      if (commit_trouble_ != kNever) return;
      rig().destination->clear();
      rig().metadata_device->clear();
      spawn(clear(*lives_.back()));
  }
}

void ShadowRun::slow_down_devices() {
  const auto most = [&] { return milliseconds(roll(1) * roll(30)); };
  CloneRig& slow = rig();
  slow.destination_slow->set_delays({{{}, most()}, {{}, most()}, {{}, most()}, {{}, most()}});
  slow.metadata_slow->set_delays({{{}, most()}, {{}, most()}, {{}, most()}, {{}, most()}});
  slow.destination_disk->set_flush_time(slow.sim, most());
  slow.metadata_disk->set_flush_time(slow.sim, most());
}

void ShadowRun::apply_options() { rig().engine().apply_live(config_.options); }

void ShadowRun::make_origin_trouble() {
  MemoryOrigin::World& world = *rig().origin;
  static constexpr int kDelays[] = {0, 1, 20, 300};
  world.delay = milliseconds(kDelays[roll(3)]);
  if (traits_.outages) {
    world.reachable = chance(70);
    world.hang = chance(20);
    if (!world.hang) world.released.wake_all();
  }
  if (traits_.bad_blocks) {
    world.bad_blocks.clear();
    for (std::uint64_t n = roll(3); n > 0; --n) {
      const std::uint64_t block = roll(config_.size / k4K - 1);
      world.bad_blocks.insert(block);
      bad_ever_.insert(block);
    }
  }
}

void ShadowRun::add_fault() {
  using Fault = FaultyDevice;
  const auto effect = chance(50) ? Fault::Effect::none : Fault::Effect::done;
  Fault::Rule rule{.skip = roll(5), .times = 1 + roll(2), .effect = effect};
  if (traits_.device_faults && chance(70)) {
    ++counts_.faults;
    static constexpr unsigned kKinds[] = {Fault::kRead, Fault::kWrite, Fault::kZero};
    rule.kinds = kKinds[roll(2)];
    const bool read = rule.kinds == Fault::kRead;
    rule.error = {make_error_code(read ? Errc::destination_read : Errc::destination_write),
                  "fault"};
    rig().destination->add(rule);
  } else if (traits_.commit_faults && chance(30)) {
    ++counts_.faults;
    commit_trouble_ = kNever;
    const bool flush = chance(50);
    rule.kinds = flush ? Fault::kFlush : unsigned{Fault::kWrite} | Fault::kFlush;
    rule.error = {make_error_code(Errc::metadata_io), "fault"};
    (flush ? rig().destination : rig().metadata_device)->add(rule);
  }
}

void ShadowRun::end_trouble() {
  MemoryOrigin::World& world = *rig().origin;
  world.reachable = true;
  world.hang = false;
  world.released.wake_all();
  world.bad_blocks.clear();
  world.delay = {};
  rig().destination->clear();
  rig().metadata_device->clear();
}

}  // namespace clonedev
