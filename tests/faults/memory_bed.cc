#include "faults/memory_bed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "metadata/superblock.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::seconds;
namespace fs = std::filesystem;

constexpr std::uint64_t kBlocks = 64;
constexpr Extent kWholeClone{0, kBlocks* k4K};
constexpr auto kLongestBusy = seconds(21);  // origin_timeout is 20 s.
constexpr auto kLong = seconds(60);         // Much longer than any deadline of ours.

constexpr Extent blocks(std::uint64_t first, std::uint64_t count = 1) {
  return {first * k4K, count * k4K};
}

// Where the activities go; lay_out() says what lies there.
constexpr Extent kAbsent = blocks(0);
constexpr Extent kAbsentInPart{k4K + 512, 512};
constexpr Extent kAbsentToo = blocks(2);
constexpr Extent kPresent = blocks(8);
constexpr Extent kPresentToo = blocks(9);
constexpr Extent kToDiscard = blocks(10, 2);

constexpr Extent kBadOfDestination{kPresent.offset, 512};
constexpr Extent kBadOfOrigin[] = {{kAbsent.offset, 512}, {k4K + 2048, 512}};

RigConfig config_for(SmallTmpfs* live_dir) {
  RigConfig config;
  config.size = kWholeClone.length;
  if (live_dir) config.live_dir = live_dir->path();
  return config;
}

// The one live map in a folder.
fs::path live_map_in(const fs::path& dir) {
  for (const auto& file : fs::directory_iterator(dir)) {
    if (file.path().extension() == ".live") return file.path();
  }
  return {};
}

Error error_of(Errc code) { return {make_error_code(code), "on purpose"}; }

void write_to(CloneRig& rig, BlockDevice& disk, std::uint64_t offset, Bytes bytes) {
  const iovec entry{bytes.data(), bytes.size()};
  const std::span<const iovec> list(&entry, 1);
  EXPECT_TRUE(rig.sim.run(disk.write(offset, list)));
  EXPECT_TRUE(rig.sim.run(disk.flush()));
}

Task<Result<>> nothing() { co_return Result<>{}; }

// That nothing has changed is seen when all is read.
void expect_write_protected(CloneRig& rig) {
  const auto refused = rig.write(blocks(50).offset, pattern(79, k4K));
  ASSERT_FALSE(refused) << "takes writes that build on what may be lost";
  EXPECT_EQ(refused.error().code, make_error_code(Errc::refused));
  EXPECT_FALSE(rig.zero(blocks(52)));
}

}  // namespace

MemoryBed::MemoryBed(const Cell& cell, SmallTmpfs* live_dir) : cell_(cell), live_dir_(live_dir) {
  rig_.emplace(config_for(live_dir));
  origin_content_ = rig_->origin->content;
  origin_identity_ = rig_->origin->identity;
  shadow_.emplace(origin_content_);
}

MemoryBed::~MemoryBed() {
  if (live_dir_) live_dir_->fill(false);
}

void MemoryBed::run(const Expectation& expected) {
  if (live_dir_) {
    lay_out_one_state();
  } else {
    lay_out();
  }
  if (cell_.activity == Activity::open) {
    run_open(expected);
  } else {
    run_activity(expected);
  }
  failed_operations_ += rig_->destination->failed() + rig_->metadata_device->failed();
}

// ---- the disk ----

// 0.. the origin's, 8.. on the destination and durable, 16.. zero and durable, 32.. on the
// destination and not durable: but for FLUSHes without a commit, which find no such states.
void MemoryBed::lay_out() {
  write_now(blocks(8, 8));
  const auto discarded = shadow_->begin(blocks(16, 8), ShadowDisk::kZero);
  ASSERT_TRUE(rig_->zero(discarded.extent));
  shadow_->done(discarded, false);
  flush_now(*rig_);
  write_now(cell_.activity == Activity::flush ? blocks(14) : blocks(32, 8));
}

// All blocks the origin's, or all on the destination: no state needs memory until one differs.
void MemoryBed::lay_out_one_state() {
  using enum Activity;
  const Activity fresh[] = {idle, read, write_partial, write_aligned, open};
  if (std::ranges::find(fresh, cell_.activity) != std::end(fresh)) return;
  write_now(kWholeClone);
  if (cell_.activity == commit || cell_.activity == close) return;
  flush_now(*rig_);
  if (cell_.activity == flush) write_now(blocks(14));
}

void MemoryBed::write_now(Extent extent) {
  const auto change = shadow_->begin(extent, shadow_->fresh_number());
  ASSERT_TRUE(rig_->write(extent.offset, shadow_->bytes(change.number, extent)));
  shadow_->done(change, false);
}

void MemoryBed::flush_now(CloneRig& rig) {
  const auto begun = shadow_->now();
  ASSERT_TRUE(rig.flush());
  shadow_->flushed(begun);
}

// ---- the fault ----

void MemoryBed::inject(CloneRig& rig) {
  switch (cell_.target) {
    case Target::origin:
      return inject_origin(rig);
    case Target::live_map:
      return inject_live_map(rig);
    case Target::destination:
    case Target::metadata:
      return inject_device(rig);
  }
}

void MemoryBed::inject_origin(CloneRig& rig) {
  MemoryOrigin::World& world = *rig.origin;
  switch (cell_.fault) {
    case Fault::read_error:
      world.bad_blocks = {0, 1};
      return;
    case Fault::stall:
      world.hang = true;
      return;
    case Fault::disappearance:
      world.reachable = false;
      return;
    case Fault::corruption:
      return corrupt_origin(rig);
    case Fault::change:
      world.identity = "memory:another";
      world.content = pattern(77, world.content.size());
      ++world.epoch;
      return;
    default:
      FAIL() << "the origin has no such fault here";
  }
}

void MemoryBed::inject_device(CloneRig& rig) {
  using Device = FaultyDevice;
  const bool destination = cell_.target == Target::destination;
  Device& device = destination ? *rig.destination : *rig.metadata_device;
  SlowDevice& slow = destination ? *rig.destination_slow : *rig.metadata_slow;
  constexpr unsigned kChanges = Device::kWrite | Device::kZero | Device::kFlush;
  const Fault fault = cell_.fault;
  const bool gone = fault == Fault::disappearance;
  if (fault == Fault::read_error || gone) {
    device.add({.kinds = Device::kRead, .error = error_of(Errc::destination_read)});
  }
  if (fault == Fault::write_error || gone) {
    device.add({.kinds = kChanges, .error = error_of(Errc::destination_write)});
  }
  if (fault == Fault::no_space) {
    device.add({.kinds = kChanges, .error = error_of(Errc::no_space)});
  }
  if (fault == Fault::stall) slow.hold(SlowDevice::kAny);
  if (fault == Fault::corruption) destination ? corrupt_destination(rig) : corrupt_metadata(rig);
}

void MemoryBed::inject_live_map(CloneRig& rig) {
  const fs::path file = live_map_in(rig.live_dir());
  switch (cell_.fault) {
    case Fault::no_space:
      return live_dir_->fill(true);
    case Fault::corruption:
      return corrupt_live_map(rig);
    case Fault::disappearance:
      fs::remove(file);
      return;
    case Fault::change: {
      const CloneRig other(config_for(nullptr));
      fs::remove(file);
      fs::copy(live_map_in(other.live_dir()), file);
      return;
    }
    default:
      FAIL() << "the live map has no such fault here";
  }
}

void MemoryBed::corrupt_origin(CloneRig& rig) {
  for (const Extent bad : kBadOfOrigin) {
    std::ranges::copy(pattern(78, bad.length),
                      rig.origin->content.begin() + static_cast<std::ptrdiff_t>(bad.offset));
    unseen_.push_back(bad);
  }
}

void MemoryBed::corrupt_destination(CloneRig& rig) {
  const Extent bad = kBadOfDestination;
  write_to(rig, *rig.destination_disk, bad.offset, pattern(78, bad.length));
  unseen_.push_back(bad);
}

// The page of states that the durable superblock refers to.
void MemoryBed::corrupt_metadata(CloneRig& rig) {
  auto superblock = rig.sim.run(read_superblock(*rig.metadata_disk));
  ASSERT_TRUE(superblock && *superblock);
  const PageRef page = (*superblock)->roots[0];
  ASSERT_FALSE(page.is_uniform());
  bad_unit_ = {page.where * kUnitBytes, kUnitBytes};
  good_unit_ = rig.metadata_disk->present().bytes(bad_unit_);
  write_to(rig, *rig.metadata_disk, bad_unit_.offset, pattern(78, kUnitBytes));
}

void MemoryBed::corrupt_live_map(CloneRig& rig) {
  std::fstream file(live_map_in(rig.live_dir()), std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(kUnitBytes);  // The kind of the first page.
  file.put(7);
}

void MemoryBed::heal(CloneRig& rig) {
  mend_origin(rig);
  rig.destination->clear();
  rig.metadata_device->clear();
  rig.destination_slow->release();
  rig.metadata_slow->release();
  if (live_dir_) live_dir_->fill(false);
}

void MemoryBed::mend_origin(CloneRig& rig) const {
  MemoryOrigin::World& world = *rig.origin;
  world.bad_blocks.clear();
  world.reachable = true;
  world.hang = false;
  world.released.wake_all();
  world.content = origin_content_;
  if (world.identity != origin_identity_) ++world.epoch;
  world.identity = origin_identity_;
}

// ---- the activity ----

void MemoryBed::run_activity(const Expectation& expected) {
  CloneRig& rig = *rig_;
  inject(rig);
  const auto began = rig.sim.now();
  Task<Result<>> activity = start();
  if (expected.outcome == Outcome::waits) {
    rig.sim.run_for(kLong);
    EXPECT_FALSE(activity.done()) << "did not wait for the device";
    after_death(expected);
    heal(rig);
  }
  if (is(Target::origin, Fault::stall) && cell_.activity == Activity::write_partial) {
    write_now(blocks(1));  // Whoever waits for the origin holds nothing.
    EXPECT_LE(rig.sim.now() - began, seconds(1));
    EXPECT_FALSE(activity.done());
  }
  const Result<> outcome = rig.sim.run(std::move(activity));
  judge(outcome, expected);
  if (cell_.target == Target::origin) {
    EXPECT_LE(rig.sim.now() - began, kLongestBusy);
  }
  settle(outcome);
  if (expected.outcome != Outcome::waits) {
    after_death(expected);
    heal(rig);
  }
  if (cell_.activity != Activity::close) return after_healing(rig, expected);
  const auto next = rig.kill();
  if (refused_after_kill()) return;
  ASSERT_TRUE(next->open());
  EXPECT_EQ(shadow_->killed(read_all(*next)), "");
  after_healing(*next, expected);
}

// What a new process meets; the rig it comes from lives on untouched. A full live map matters only
// where a new one has to be made.
void MemoryBed::run_open(const Expectation& expected) {
  std::unique_ptr<CloneRig> killed;
  if (live_dir_) {
    ASSERT_TRUE(rig_->close());
  } else {
    killed = rig_->kill();
  }
  CloneRig& next = killed ? *killed : *rig_;
  const fs::path live = live_map_in(next.live_dir());
  const fs::path copy = next.live_dir() / "copy";
  if (!live.empty()) fs::copy(live, copy);
  inject(next);
  const Bytes before = next.destination_disk->present().bytes(kWholeClone);
  const auto opened = next.open();
  judge(opened, expected);
  if (!opened) {
    EXPECT_EQ(opened.error().message().find('\n'), std::string::npos);
    EXPECT_TRUE(next.destination_disk->present().bytes(kWholeClone) == before);
    heal(next);
    if (!bad_unit_.empty()) write_to(next, *next.metadata_disk, bad_unit_.offset, good_unit_);
    if (!live.empty()) fs::copy(copy, live, fs::copy_options::overwrite_existing);
    ASSERT_TRUE(next.open());
  }
  heal(next);
  EXPECT_EQ(shadow_->killed(read_all(next)), "");
  after_healing(next, expected);
  failed_operations_ += next.destination->failed() + next.metadata_device->failed();
}

Task<Result<>> MemoryBed::start_write(Extent extent) {
  change_ = shadow_->begin(extent, shadow_->fresh_number());
  data_ = shadow_->bytes(change_->number, extent);
  return rig_->begin_write(extent.offset, data_);
}

Task<Result<>> MemoryBed::start() {
  CloneRig& rig = *rig_;
  switch (cell_.activity) {
    case Activity::idle:
      rig.set_hydration(true);
      rig.sim.run_for(seconds(5));
      break;
    case Activity::read:
      reading_ = cell_.target == Target::origin ? kAbsent : kPresent;
      begun_ = shadow_->begin_read();
      return rig.begin_read(*reading_, data_);
    case Activity::write_partial:
      return start_write(kAbsentInPart);
    case Activity::write_aligned:
      return start_write(kAbsentToo);
    case Activity::overwrite:
      return start_write(kPresentToo);
    case Activity::discard:
      change_ = shadow_->begin(kToDiscard, ShadowDisk::kZero);
      return rig.engine().zero(kToDiscard, Zeroing::deallocate, false);
    case Activity::flush:
    case Activity::commit:
      begun_ = shadow_->now();
      return rig.engine().flush();
    case Activity::close:
      begun_ = shadow_->now();
      return rig.engine().stop();
    case Activity::open:
      break;
  }
  return nothing();
}

void MemoryBed::judge(const Result<>& outcome, const Expectation& expected) const {
  std::optional<Errc> wanted = expected.error;
  if (expected.outcome == Outcome::busy) wanted = Errc::busy;
  if (!wanted) {
    EXPECT_TRUE(outcome) << outcome.error().message();
  } else if (outcome) {
    ADD_FAILURE() << "succeeded, expected: " << make_error_code(*wanted).message();
  } else {
    EXPECT_EQ(outcome.error().code, make_error_code(*wanted)) << outcome.error().message();
  }
}

// What the shadow has to know of the activity.
void MemoryBed::settle(const Result<>& outcome) {
  if (reading_) check_bytes_read();
  if (!change_ && outcome && begun_ && !reading_) shadow_->flushed(begun_);
  if (!change_) return;
  if (outcome) {
    shadow_->done(*change_, false);
  } else if (outcome.error().code == Errc::busy || outcome.error().code == Errc::live_map_full) {
    EXPECT_EQ(shadow_->undone(*change_), "");
  } else {
    shadow_->perhaps(*change_);
  }
}

void MemoryBed::check_bytes_read() {
  for (const Extent bad : unseen_) {
    if (bad.offset != reading_->offset) continue;
    const Bytes shown(data_.begin(), data_.begin() + static_cast<std::ptrdiff_t>(bad.length));
    EXPECT_EQ(shown, pattern(78, bad.length)) << "nothing was corrupted";
  }
  excuse_unseen(*reading_, data_);
}

// ---- afterwards ----

Bytes MemoryBed::read_all(CloneRig& rig) const {
  auto found = rig.read(kWholeClone);
  EXPECT_TRUE(found) << found.error().message();
  if (!found) return Bytes(kWholeClone.length);
  excuse_unseen(kWholeClone, *found);
  return std::move(*found);
}

void MemoryBed::excuse_unseen(Extent extent, Bytes& found) const {
  for (const Extent bad : unseen_) {
    if (!extent.overlaps(bad)) continue;
    std::ranges::copy(shadow_->guess(bad),
                      found.begin() + static_cast<std::ptrdiff_t>(bad.offset - extent.offset));
  }
}

// The live map that the next process needs is not there.
bool MemoryBed::refused_after_kill() const {
  return cell_.activity != Activity::close &&
         (is(Target::live_map, Fault::disappearance) || is(Target::live_map, Fault::change));
}

// A commit writes the page anew, elsewhere.
bool MemoryBed::metadata_stay_damaged() const {
  using enum Activity;
  return is(Target::metadata, Fault::corruption) && cell_.activity != commit &&
         cell_.activity != close && cell_.activity != idle;
}

void MemoryBed::after_death(const Expectation& expected) const {
  const auto killed = rig_->kill();
  mend_origin(*killed);
  const auto opened = killed->open();
  if (refused_after_kill() || metadata_stay_damaged()) {
    EXPECT_FALSE(opened) << "opened without a valid map";
  } else if (opened) {
    EXPECT_EQ(killed->engine().status().mode, expected.needs_check ? CloneMode::ro : CloneMode::rw);
    if (expected.needs_check) expect_write_protected(*killed);
    ShadowDisk shadow = *shadow_;
    EXPECT_EQ(shadow.killed(read_all(*killed)), "");
  } else {
    ADD_FAILURE() << "after a kill: " << opened.error().message();
  }
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const auto cut = rig_->power_cut(seed);
    mend_origin(*cut);
    const auto found = cut->open();
    EXPECT_EQ(found.has_value(), !metadata_stay_damaged());
    if (!found) continue;
    if (expected.needs_check && cell_.target != Target::metadata) {
      EXPECT_EQ(cut->engine().status().mode, CloneMode::ro) << "needs_check was not durable";
      expect_write_protected(*cut);
    }
    ShadowDisk shadow = *shadow_;
    EXPECT_EQ(shadow.power_cut(read_all(*cut)), "");
  }
}

void MemoryBed::after_healing(CloneRig& rig, const Expectation& expected) {
  EXPECT_EQ(rig.engine().status().mode, expected.needs_check ? CloneMode::ro : CloneMode::rw);
  rig.sim.run_for(seconds(30));  // The link finds its origin again.
  const auto begun = shadow_->begin_read();
  EXPECT_EQ(shadow_->end_read(begun, kWholeClone, read_all(rig)), "");
  if (expected.needs_check) {
    const auto again = rig.flush();
    ASSERT_FALSE(again) << "a failure was retried into success";
    EXPECT_EQ(again.error().code, make_error_code(Errc::needs_check));
    ASSERT_TRUE(rig.sim.run(rig.engine().clear_needs_check()));
  }
  EXPECT_EQ(rig.engine().status().mode, CloneMode::rw);
  flush_now(rig);
  const auto change = shadow_->begin(blocks(50, 2), shadow_->fresh_number());
  EXPECT_TRUE(rig.write(change.extent.offset, shadow_->bytes(change.number, change.extent)));
  shadow_->done(change, false);
  flush_now(rig);
  {
    const auto cut = rig.power_cut(9);
    ASSERT_TRUE(cut->open());
    ShadowDisk shadow = *shadow_;
    EXPECT_EQ(shadow.power_cut(read_all(*cut)), "");
  }
  EXPECT_TRUE(rig.close());
}

}  // namespace clonedev
