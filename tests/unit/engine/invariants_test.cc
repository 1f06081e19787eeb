// One test for each invariant of docs/architecture.md that the engine keeps, each of which fails
// when the invariant is broken on purpose (docs/invariants.md says how that was seen).
// I4 has its tests in tests/unit/metadata, I15 in tests/unit/io/file_device_test.cc.

#include <gtest/gtest.h>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kSeeds = 40;

// dm-clone loses this write: its discard sets the bit without looking at the copy under way, the
// write goes straight to the destination, and then the copy lands on it.
TEST(Invariants, I6_test_number_one_a_copy_in_flight_never_lands_on_a_newer_write) {
  CloneRig rig(RigConfig{});
  rig.origin->hang = true;
  rig.set_hydration(true);
  rig.sim.run_for(milliseconds(100));
  ASSERT_GT(rig.origin->reads_under_way, 0u) << "no copy is in flight";
  const Bytes data = pattern(7, k4K);
  ASSERT_TRUE(rig.zero({0, 64 * k4K}));
  ASSERT_TRUE(rig.write(0, data));
  ASSERT_TRUE(rig.flush());
  EXPECT_EQ(*rig.read({0, k4K}), data);

  rig.origin->hang = false;
  rig.origin->released.wake_all();
  rig.sim.run_for(seconds(5));
  EXPECT_EQ(*rig.read({0, k4K}), data) << "the copy overtook an acknowledged, flushed write";
  EXPECT_EQ(*rig.read({k4K, k4K}), Bytes(k4K)) << "the copy overtook the discard";
  rig.hydrate_to_the_end();
  EXPECT_EQ(rig.destination_disk->present().bytes({0, k4K}), data);
  EXPECT_EQ(rig.destination_disk->present().bytes({k4K, 63 * k4K}), Bytes(63 * k4K));
}

// The copy has its data and is writing it when the discard and the write come.
TEST(Invariants, I6_a_discard_and_a_write_wait_for_a_copy_that_is_being_written) {
  CloneRig rig(RigConfig{});
  rig.destination_slow->hold(SlowDevice::kWrite);
  rig.set_hydration(true);
  rig.sim.run_for(milliseconds(100));
  ASSERT_GT(rig.destination_slow->in_flight(), 0u) << "no copy is being written";
  const Bytes data = pattern(7, k4K);
  Task<Result<>> discard = rig.engine().zero({0, 4 * k4K}, Zeroing::deallocate, false);
  Task<Result<>> write = rig.begin_write(0, data);
  rig.sim.run_for(milliseconds(100));
  EXPECT_FALSE(discard.done());
  rig.destination_slow->release();
  EXPECT_TRUE(rig.sim.run(std::move(discard)));
  EXPECT_TRUE(rig.sim.run(std::move(write)));
  rig.sim.run_for(seconds(2));
  EXPECT_EQ(*rig.read({0, k4K}), data);
  EXPECT_EQ(*rig.read({k4K, k4K}), Bytes(k4K));
}

TEST(Invariants, I1_a_state_is_durable_only_after_the_data_it_promises) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    RigConfig config;
    config.seed = seed;
    CloneRig rig(config);
    rig.destination_slow->hold(SlowDevice::kFlush);
    const Bytes data = pattern(seed, 8 * k4K);
    ASSERT_TRUE(rig.write(0, data));
    Task<Result<>> flush = rig.engine().flush();
    rig.sim.run_for(milliseconds(900));
    EXPECT_FALSE(flush.done());
    {
      const auto after = rig.power_cut(seed, seed % 2);
      ASSERT_TRUE(after->open());
      const Bytes found = *after->read({0, data.size()});
      const Bytes old = rig.origin_bytes({0, data.size()});
      for (std::size_t at = 0; at < data.size(); at += 512) {
        const auto sector = [&](const Bytes& b) { return Bytes(&b[at], &b[at] + 512); };
        EXPECT_EQ(sector(found), sector(old)) << "seed " << seed << " offset " << at;
      }
    }
    rig.destination_slow->release();
    EXPECT_TRUE(rig.sim.run(std::move(flush)));
    const auto after = rig.power_cut(seed, seed % 2);
    ASSERT_TRUE(after->open());
    EXPECT_EQ(*after->read({0, data.size()}), data) << "seed " << seed;
  }
}

// A write that comes while a commit runs is none of that commit's business.
TEST(Invariants, I2_a_write_during_a_commit_is_durable_with_the_next_flush_only) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CloneRig rig(RigConfig{});
    const Bytes first = pattern(seed, k4K);
    const Bytes second = pattern(seed + 1000, k4K);
    ASSERT_TRUE(rig.write(0, first));
    rig.destination_slow->hold(SlowDevice::kFlush);
    Task<Result<>> flush = rig.engine().flush();
    rig.sim.run_for(milliseconds(10));
    ASSERT_TRUE(rig.write(k4K, second));
    Task<Result<>> later = rig.engine().flush();
    rig.destination_slow->release();
    EXPECT_TRUE(rig.sim.run(std::move(flush)));
    {
      const auto after = rig.power_cut(seed);
      ASSERT_TRUE(after->open());
      EXPECT_EQ(*after->read({0, k4K}), first);
      const Bytes found = *after->read({k4K, k4K});
      const Bytes old = rig.origin_bytes({k4K, k4K});
      for (std::size_t at = 0; at < k4K; at += 512) {
        const auto sector = [&](const Bytes& b) { return Bytes(&b[at], &b[at] + 512); };
        EXPECT_TRUE(sector(found) == sector(second) || sector(found) == sector(old));
      }
    }
    EXPECT_TRUE(rig.sim.run(std::move(later)));
    const auto after = rig.power_cut(seed);
    ASSERT_TRUE(after->open());
    EXPECT_EQ(*after->read({k4K, k4K}), second);
  }
}

// The copy's own state may be lost in a power cut; not any more once a user wrote there.
TEST(Invariants, I3_a_flushed_write_into_a_copied_block_survives_a_power_cut) {
  CloneRig rig(RigConfig{});
  rig.metadata_slow->hold(SlowDevice::kWrite);  // No periodic commit makes the copies durable.
  rig.set_hydration(true);
  rig.sim.run_until([&] { return rig.state(3) == BlockState::copied; });
  const Bytes data = pattern(9, 512);
  ASSERT_TRUE(rig.write(3 * k4K + 1024, data));
  ASSERT_TRUE(rig.metadata().must_commit());
  rig.metadata_slow->release();
  ASSERT_TRUE(rig.flush());
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const auto after = rig.power_cut(seed);
    ASSERT_TRUE(after->open());
    EXPECT_EQ(*after->read({3 * k4K + 1024, 512}), data) << "seed " << seed;
  }
}

TEST(Invariants, I3_with_fua_or_without_a_write_cache_a_write_is_durable_when_it_is_answered) {
  for (const bool fua : {true, false}) {
    RigConfig config;
    config.options.write_cache = fua;
    CloneRig rig(config);
    const Bytes data = pattern(11, 3 * 512);
    ASSERT_TRUE(rig.write(k4K - 512, data, fua));
    const auto after = rig.power_cut(1);
    ASSERT_TRUE(after->open());
    EXPECT_EQ(*after->read({k4K - 512, data.size()}), data);
  }
}

TEST(Invariants, I3_flushes_that_arrive_during_a_commit_share_the_next_one) {
  CloneRig rig(RigConfig{});
  ASSERT_TRUE(rig.write(0, pattern(1, k4K)));
  rig.destination_slow->hold(SlowDevice::kFlush);
  const auto before = rig.destination->count(FaultyDevice::kFlush);
  std::vector<Task<Result<>>> flushes;
  for (int i = 0; i < 20; ++i) flushes.push_back(rig.engine().flush());
  rig.sim.run_for(milliseconds(10));
  rig.destination_slow->release();
  for (auto& flush : flushes) EXPECT_TRUE(rig.sim.run(std::move(flush)));
  EXPECT_EQ(rig.destination->count(FaultyDevice::kFlush) - before, 2u);
}

// Copies, writes, a discard and commits overlap; the power goes at every step.
TEST(Invariants, I5_after_a_power_cut_a_sector_is_the_origins_or_one_that_was_written) {
  RigConfig config;
  config.size = 64 * k4K;
  config.options.hydration_batch_size = 1;
  config.options.hydration_threshold = 4;
  CloneRig rig(config);
  rig.destination_disk->set_flush_time(rig.sim, milliseconds(30));
  rig.origin->delay = milliseconds(20);
  rig.set_hydration(true);
  const Bytes old = rig.origin_bytes({0, config.size});
  // One write a step, of one sector in the block of that number, makes the commits commit.
  std::vector<Bytes> written(61);
  const auto place = [](std::uint64_t step) { return step * k4K + 1024; };
  const Extent zeroed{58 * k4K, 4 * k4K};
  std::vector<Task<Result<>>> requests;
  requests.push_back(rig.engine().zero(zeroed, Zeroing::deallocate, false));
  bool partly_copied = false;
  for (std::uint64_t step = 1; step <= 60; ++step) {
    written[step] = pattern(step, 512);
    requests.push_back(rig.begin_write(place(step), written[step]));
    rig.sim.run_for(milliseconds(9));
    if (step % 3 == 0) requests.push_back(rig.engine().flush());
    const auto after = rig.power_cut(step, true);
    ASSERT_TRUE(after->open());
    const BlockCounts counts = after->metadata().map().counts();
    partly_copied |= counts.destination > 8 && counts.origin > 8;
    const Bytes found = *after->read({0, config.size});
    for (std::size_t at = 0; at < config.size; at += 512) {
      const auto sector = [&](const Bytes& b, std::size_t from) {
        return Bytes(&b[from], &b[from] + 512);
      };
      bool legal = sector(found, at) == sector(old, at);
      if (Extent{at, 512}.overlaps(zeroed)) legal |= sector(found, at) == Bytes(512);
      const std::uint64_t block = at / k4K;
      if (block <= step && at == place(block)) legal |= sector(found, at) == written[block];
      EXPECT_TRUE(legal) << "step " << step << " offset " << at;
    }
  }
  EXPECT_TRUE(partly_copied) << "no cut fell into the middle of the copying";
  for (auto& request : requests) EXPECT_TRUE(rig.sim.run(std::move(request)));
}

TEST(Invariants, I7_readers_switch_to_the_destination_only_once_its_bytes_are_there) {
  CloneRig rig(RigConfig{});
  rig.destination_slow->hold(SlowDevice::kWrite);
  rig.set_hydration(true);
  const Bytes data = pattern(3, k4K);
  Task<Result<>> write = rig.begin_write(100 * k4K, data);
  rig.sim.run_for(milliseconds(300));
  EXPECT_FALSE(write.done());
  EXPECT_EQ(*rig.read({0, 200 * k4K}), rig.origin_bytes({0, 200 * k4K}));
  rig.destination_slow->release();
  EXPECT_TRUE(rig.sim.run(std::move(write)));
}

TEST(Invariants, I7_readers_of_a_block_that_is_being_copied_read_the_origin) {
  CloneRig rig(RigConfig{});
  rig.destination_slow->hold(SlowDevice::kWrite);
  rig.set_hydration(true);
  rig.sim.run_for(milliseconds(300));
  ASSERT_GT(rig.destination_slow->in_flight(), 0u);
  EXPECT_EQ(*rig.read({0, 200 * k4K}), rig.origin_bytes({0, 200 * k4K}));
  rig.destination_slow->release();
}

TEST(Invariants, I8_zeroed_blocks_read_as_zeroes_and_stale_bytes_are_never_shown) {
  for (const bool passdown : {true, false}) {
    RigConfig config;
    config.options.discard_passdown = passdown;
    CloneRig rig(config);
    ASSERT_TRUE(rig.write(0, pattern(5, 8 * k4K)));
    ASSERT_TRUE(rig.flush());
    ASSERT_TRUE(rig.zero({512, 6 * k4K}));  // Edges in part, too.
    Bytes expected = pattern(5, 8 * k4K);
    std::fill_n(expected.begin() + 512, 6 * k4K, std::byte{0});
    EXPECT_EQ(*rig.read({0, 8 * k4K}), expected);
    ASSERT_TRUE(rig.write(3 * k4K + 512, pattern(6, 512)));
    std::ranges::copy(pattern(6, 512), expected.begin() + 3 * k4K + 512);
    EXPECT_EQ(*rig.read({0, 8 * k4K}), expected);
    rig.hydrate_to_the_end();
    EXPECT_EQ(rig.destination_disk->present().bytes({0, 8 * k4K}), expected);
    ASSERT_TRUE(rig.zero({4 * k4K, 2 * k4K}, Zeroing::keep));  // Complete: the device is zeroed.
    std::fill_n(expected.begin() + 4 * k4K, 2 * k4K, std::byte{0});
    EXPECT_EQ(rig.destination_disk->present().bytes({0, 8 * k4K}), expected);
  }
}

TEST(Invariants, I9_a_write_that_covers_a_block_in_part_keeps_the_rest_of_it) {
  for (const std::uint32_t sector : {512u, 4096u}) {
    RigConfig config;
    config.sector_size = sector;
    config.options.copy_on_read = false;
    CloneRig rig(config);
    Bytes expected = rig.origin_bytes({0, 16 * k4K});
    const auto put = [&](std::uint64_t offset, std::size_t length) {
      const Bytes data = pattern(offset, length);
      ASSERT_TRUE(rig.write(offset, data));
      std::ranges::copy(data, expected.begin() + static_cast<std::ptrdiff_t>(offset));
    };
    put(512, 512);
    put(512 * 3, 1024);            // Again, now on the destination.
    put(2 * k4K - 512, 1024);      // Two edges, no whole block.
    put(4 * k4K + 1024, 3 * k4K);  // Edges and whole blocks.
    put(9 * k4K, k4K + 512);       // A tail only.
    EXPECT_EQ(*rig.read({0, expected.size()}), expected);
    EXPECT_EQ(rig.state(15), BlockState::origin);
  }
}

TEST(Invariants, I10_a_failed_flush_is_final_until_the_admin_acts_and_data_stay_visible) {
  CloneRig rig(RigConfig{});
  const Bytes data = pattern(1, k4K);
  ASSERT_TRUE(rig.write(0, data));
  rig.destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
  EXPECT_FALSE(rig.flush());
  const auto again = rig.flush();
  ASSERT_FALSE(again) << "a failed flush was retried into success";
  EXPECT_EQ(again.error().code, Errc::needs_check);
  EXPECT_FALSE(rig.write(k4K, data, true)) << "FUA";
  EXPECT_EQ(*rig.read({0, k4K}), data) << "visible data changed back";
  EXPECT_EQ(rig.engine().status().mode, CloneMode::ro);
  {
    const auto after = rig.kill();
    ASSERT_TRUE(after->open());
    EXPECT_FALSE(after->flush()) << "needs_check was not persisted";
    EXPECT_EQ(*after->read({0, k4K}), data);
  }
  EXPECT_TRUE(rig.write(k4K, data))
      << "the initiator knows of the failure, and may go on unflushed";
  EXPECT_TRUE(rig.sim.run(rig.engine().clear_needs_check()));
  EXPECT_TRUE(rig.flush());
  const auto after = rig.power_cut(3);
  ASSERT_TRUE(after->open());
  EXPECT_EQ(*after->read({0, k4K}), data);
}

TEST(Invariants, I10_a_failed_metadata_write_is_final_too) {
  CloneRig rig(RigConfig{});
  const Bytes data = pattern(1, k4K);
  ASSERT_TRUE(rig.write(0, data));
  rig.metadata_device->add({.kinds = FaultyDevice::kWrite, .times = 1});
  EXPECT_FALSE(rig.flush());
  EXPECT_FALSE(rig.flush());
  EXPECT_EQ(*rig.read({0, k4K}), data);
}

TEST(Invariants, I10_what_is_opened_with_needs_check_is_read_only_until_the_admin_acts) {
  CloneRig rig(RigConfig{});
  const Bytes data = pattern(1, k4K);
  ASSERT_TRUE(rig.write(0, data));
  rig.destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
  EXPECT_FALSE(rig.flush());
  for (const bool killed : {true, false}) {
    const auto after = killed ? rig.kill() : rig.power_cut(1);
    ASSERT_TRUE(after->open());
    EXPECT_TRUE(after->engine().read_only());
    const Bytes before = *after->read({0, 1 << 20});
    const Bytes other = pattern(2, k4K);
    const Result<> refused[] = {after->write(0, other), after->write(512, pattern(3, 512)),
                                after->zero({0, k4K}), after->zero({512, 512}, Zeroing::keep),
                                after->compare_and_write(0, data, other)};
    for (const Result<>& one : refused) {
      ASSERT_FALSE(one);
      EXPECT_EQ(one.error().code, Errc::refused) << one.error().message();
    }
    after->set_hydration(true);
    after->sim.run_for(std::chrono::seconds(5));
    EXPECT_EQ(after->state(200), BlockState::origin) << "hydration went on";
    EXPECT_EQ(*after->read({0, 1 << 20}), before);
    EXPECT_TRUE(after->sim.run(after->engine().clear_needs_check()));
    EXPECT_FALSE(after->engine().read_only());
    EXPECT_TRUE(after->write(0, other, true));
    EXPECT_EQ(*after->read({0, k4K}), other);
  }
}

TEST(Invariants, I11_another_origin_is_not_believed_after_a_reconnect) {
  RigConfig config;
  config.options.origin_timeout_ms = 3000;
  CloneRig rig(config);
  EXPECT_EQ(*rig.read({0, k4K}), rig.origin_bytes({0, k4K}));
  rig.origin->reachable = false;
  EXPECT_FALSE(rig.read({k4K, k4K}));
  rig.origin->identity = "memory:another";
  rig.origin->content = pattern(99, config.size);
  rig.origin->reachable = true;
  rig.sim.run_for(seconds(30));
  const auto read = rig.read({k4K, k4K});
  ASSERT_FALSE(read) << "read from another origin";
  EXPECT_NE(rig.link()->last_error().find("changed"), std::string::npos)
      << rig.link()->last_error();
}

TEST(Invariants, I12_close_returns_when_no_copy_can_still_write) {
  CloneRig rig(RigConfig{});
  rig.destination_slow->hold(SlowDevice::kWrite);
  rig.set_hydration(true);
  rig.sim.run_for(milliseconds(100));
  ASSERT_GT(rig.destination_slow->in_flight(), 0u);
  Task<Result<>> stop = rig.engine().stop();
  rig.sim.run_for(seconds(10));
  EXPECT_FALSE(stop.done());
  rig.destination_slow->release();
  EXPECT_TRUE(rig.sim.run(std::move(stop)));
  EXPECT_EQ(rig.destination_slow->in_flight(), 0u);
}

TEST(Invariants, I13_what_was_acknowledged_before_a_kill_is_visible_after_it) {
  CloneRig rig(RigConfig{});
  const Bytes data = pattern(1, 3 * 512);
  ASSERT_TRUE(rig.write(k4K - 512, data));
  ASSERT_TRUE(rig.zero({8 * k4K, 2 * k4K}));
  const auto after = rig.kill();
  ASSERT_TRUE(after->open());
  EXPECT_EQ(*after->read({k4K - 512, data.size()}), data);
  EXPECT_EQ(*after->read({8 * k4K, 2 * k4K}), Bytes(2 * k4K));
  // All of it counts as written by the user: the next FLUSH makes it durable.
  ASSERT_TRUE(after->flush());
  const auto later = after->power_cut(5);
  ASSERT_TRUE(later->open());
  EXPECT_EQ(*later->read({k4K - 512, data.size()}), data);
}

TEST(Invariants, I13_a_compare_and_write_executed_again_after_a_kill_succeeds_again) {
  CloneRig rig(RigConfig{});
  const Bytes before = rig.origin_bytes({512, 512});
  const Bytes data = pattern(4, 512);
  ASSERT_TRUE(rig.compare_and_write(512, before, data));
  const auto after = rig.kill();
  ASSERT_TRUE(after->open());
  EXPECT_TRUE(after->compare_and_write(512, before, data)) << "the ring is executed again";
  const auto third = after->compare_and_write(512, before, data);
  ASSERT_FALSE(third) << "a new one must not profit from it";
  EXPECT_EQ(third.error().code, Errc::miscompare);
}

TEST(Invariants, I14_a_command_that_missed_its_deadline_is_busy_and_never_has_an_effect) {
  RigConfig config;
  config.options.origin_timeout_ms = 5000;
  CloneRig rig(config);
  ASSERT_TRUE(rig.read({100 * k4K, k4K}));
  rig.origin->hang = true;
  Bytes into(k4K, std::byte{0xAA});
  const Bytes untouched = into;
  const auto start = rig.sim.now();
  const auto read = rig.sim.run(rig.begin_read({0, k4K}, into));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Errc::busy);
  EXPECT_LE(rig.sim.now() - start, seconds(6));
  const auto write = rig.write(512, pattern(1, 512));
  ASSERT_FALSE(write);
  EXPECT_EQ(write.error().code, Errc::busy);
  EXPECT_TRUE(rig.write(8 * k4K, pattern(2, k4K))) << "an aligned write never waits";
  rig.origin->hang = false;
  rig.origin->released.wake_all();
  rig.sim.run_for(seconds(10));
  EXPECT_EQ(into, untouched) << "the origin wrote into memory that was given back";
  EXPECT_EQ(*rig.read({0, k4K}), rig.origin_bytes({0, k4K})) << "a BUSY write had an effect";
}

}  // namespace
}  // namespace clonedev
