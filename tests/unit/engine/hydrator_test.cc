// Copying behind the user's back: on the rig, with an origin that can be slow, broken or away.

#include "engine/hydrator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr std::uint64_t kBlocks = 256;

class HydratorTest : public testing::Test {
 protected:
  Bytes image() const { return rig_.destination_disk->present().bytes({0, kBlocks * k4K}); }
  Bytes origin() const { return rig_.origin_bytes({0, kBlocks * k4K}); }
  void fill_origin(BlockRange blocks, std::byte with) {
    std::fill_n(rig_.origin->content.begin() + static_cast<std::ptrdiff_t>(blocks.first * k4K),
                blocks.count * k4K, with);
  }
  void tune(std::uint32_t threshold, std::uint32_t batch) {
    Options options;
    options.hydration_threshold = threshold;
    options.hydration_batch_size = batch;
    rig_.engine().apply_live(options);
  }
  // The most regions in flight at once over that time, looked at after every step.
  std::uint64_t most_in_flight(Scheduler::Duration time) {
    std::uint64_t most = 0;
    const auto end = rig_.sim.now() + time;
    while (rig_.sim.now() < end && rig_.sim.step()) {
      most = std::max(most, rig_.engine().status().regions.hydrating);
    }
    return most;
  }

  CloneRig rig_{RigConfig{}};  // 256 blocks, one region each.
};

TEST_F(HydratorTest, copies_everything_and_lets_the_origin_go) {
  rig_.hydrate_to_the_end();
  EXPECT_EQ(image(), origin());
  rig_.sim.run_for(seconds(1));
  EXPECT_EQ(rig_.origin->open_connections, 0u);
  EXPECT_EQ(rig_.engine().status().state, CloneState::complete);
}

// As an origin that clones share does; the last block of it is not whole.
TEST(HydratorOwnMemory, copies_what_an_origin_brings_in_memory_of_its_own) {
  RigConfig config;
  config.origin_size = kBlocks * k4K - 2 * k4K - 1536;
  CloneRig rig(config);
  rig.origin->own_memory = true;
  ASSERT_TRUE(rig.read({config.origin_size - 512, 1024}));
  rig.hydrate_to_the_end();
  const Extent all{0, kBlocks * k4K};
  EXPECT_EQ(rig.destination_disk->present().bytes(all), rig.origin_bytes(all));
}

TEST_F(HydratorTest, reads_nothing_while_it_is_off) {
  rig_.sim.run_for(minutes(1));
  EXPECT_EQ(rig_.origin->reads, 0u);
  EXPECT_EQ(rig_.engine().status().state, CloneState::paused);
}

TEST_F(HydratorTest, begins_nothing_new_once_it_is_switched_off) {
  tune(1, 1);
  rig_.origin->delay = milliseconds(10);
  rig_.sim.run_for(milliseconds(200));
  rig_.set_hydration(false);
  rig_.sim.run_for(milliseconds(100));
  const std::uint64_t reads = rig_.origin->reads;
  EXPECT_GT(reads, 0u);
  rig_.sim.run_for(minutes(1));
  EXPECT_EQ(rig_.origin->reads, reads);
}

// Nothing tells a hole from a read of zeroes but the count, so these holes hold something else.
TEST_F(HydratorTest, never_reads_a_hole_of_the_origin) {
  fill_origin({0, kBlocks}, std::byte{0x55});
  rig_.origin->extents = {
      {{0, 100 * k4K}, true}, {{100 * k4K, 10 * k4K}, false}, {{110 * k4K, 146 * k4K}, true}};
  rig_.hydrate_to_the_end();
  Bytes expected(kBlocks * k4K);
  std::fill_n(expected.begin() + 100 * k4K, 10 * k4K, std::byte{0x55});
  EXPECT_EQ(image(), expected);
}

TEST_F(HydratorTest, an_origin_that_is_one_hole_costs_no_read_at_all) {
  rig_.origin->extents = {{{0, kBlocks * k4K}, true}};
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.origin->reads, 0u);
  EXPECT_EQ(rig_.destination->count(FaultyDevice::kWrite), 0u);
  EXPECT_EQ(image(), Bytes(kBlocks * k4K));
}

TEST_F(HydratorTest, a_block_that_is_a_hole_only_in_part_is_copied) {
  fill_origin({10, 1}, std::byte{0});
  std::fill_n(rig_.origin->content.begin() + 10 * k4K + 512, 512, std::byte{0x77});
  rig_.origin->extents = {{{0, 10 * k4K}, false},
                          {{10 * k4K, 512}, true},
                          {{10 * k4K + 512, 512}, false},
                          {{10 * k4K + 1024, 3072}, true},
                          {{11 * k4K, 245 * k4K}, false}};
  rig_.hydrate_to_the_end();
  EXPECT_EQ(image(), origin());
}

TEST_F(HydratorTest, zeroes_that_it_finds_are_not_written_but_made) {
  fill_origin({64, 128}, std::byte{0});
  rig_.destination_slow->set_delays({.zero = {milliseconds(5), milliseconds(5)}});
  std::uint64_t zero = 0;
  rig_.set_hydration(true);
  rig_.sim.run_until([&] {
    zero = std::max(zero, rig_.engine().status().blocks.zero);
    return rig_.engine().complete();
  });
  EXPECT_EQ(zero, 128u);
  EXPECT_EQ(image(), origin());
}

TEST_F(HydratorTest, stale_bytes_of_the_destination_do_not_survive_as_zeroes) {
  ASSERT_TRUE(rig_.write(0, pattern(1, 32 * k4K)));
  ASSERT_TRUE(rig_.zero({0, 32 * k4K}, Zeroing::keep));
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.destination_disk->present().bytes({0, 32 * k4K}), Bytes(32 * k4K));
}

TEST_F(HydratorTest, isolates_a_bad_sector_and_copies_all_its_neighbours) {
  rig_.origin->bad_blocks = {0, 100, 101, 255};
  rig_.set_hydration(true);
  rig_.sim.run_for(minutes(1));
  for (std::uint64_t block = 0; block < kBlocks; ++block) {
    const bool bad = rig_.origin->bad_blocks.contains(block);
    EXPECT_EQ(rig_.state(block), bad ? BlockState::origin : BlockState::copied) << block;
  }
  EXPECT_GE(rig_.engine().status().errors.origin_read, 4u);
  EXPECT_EQ(rig_.engine().status().state, CloneState::hydrating);

  ASSERT_TRUE(rig_.write(100 * k4K, pattern(3, k4K)));  // The user's write mends it.
  rig_.origin->bad_blocks.clear();
  rig_.hydrate_to_the_end();
  Bytes expected = origin();
  std::ranges::copy(pattern(3, k4K), expected.begin() + 100 * k4K);
  EXPECT_EQ(image(), expected);
}

TEST_F(HydratorTest, the_pause_between_vain_passes_grows_and_has_an_end) {
  rig_.origin->bad_blocks = {100};
  rig_.set_hydration(true);
  const auto reads_in = [this](Scheduler::Duration time) {
    const std::uint64_t before = rig_.origin->reads;
    rig_.sim.run_for(time);
    return rig_.origin->reads - before;
  };
  reads_in(seconds(2));
  const std::uint64_t early = reads_in(seconds(10));
  reads_in(minutes(5));
  const std::uint64_t late = reads_in(minutes(5));
  EXPECT_LT(late, 10 * early) << "30 times as long";
  EXPECT_LE(late, 3 * 11u) << "more than three tries each half minute";
  EXPECT_GE(late, 3 * 9u) << "it has given up";
  rig_.origin->bad_blocks.clear();
  const auto mended = rig_.sim.now();
  rig_.hydrate_to_the_end();
  EXPECT_LE(rig_.sim.now() - mended, seconds(35));
}

TEST_F(HydratorTest, goes_on_under_continuous_foreground_io) {
  tune(4, 4);
  rig_.origin->delay = milliseconds(20);
  rig_.destination_slow->set_delays({.write = {milliseconds(1), milliseconds(2)}});
  const Bytes data = pattern(1, k4K);
  const auto start = rig_.sim.now();
  std::uint64_t writes = 0;
  while (!rig_.engine().complete() && rig_.sim.now() - start < minutes(1)) {
    ASSERT_TRUE(rig_.write((writes++ % 16) * k4K, data));
  }
  EXPECT_TRUE(rig_.engine().complete());
  // One region of 4 KiB at a time is what dm-clone does by default: 256 x 20 ms.
  EXPECT_LT(rig_.sim.now() - start, seconds(5));
  EXPECT_GT(writes, 100u);
}

TEST_F(HydratorTest, keeps_many_extents_in_flight_by_itself) {
  RigConfig config;
  config.size = std::uint64_t{64} << 20;
  CloneRig large(config);
  large.origin->delay = milliseconds(100);
  large.set_hydration(true);
  large.sim.run_for(milliseconds(50));
  EXPECT_GE(large.origin->reads_under_way, 8u);
}

TEST_F(HydratorTest, the_threshold_bounds_the_regions_in_flight) {
  rig_.origin->delay = milliseconds(20);
  for (const auto& [threshold, batch] : {std::pair{1u, 1u}, {3u, 1u}, {6u, 2u}, {8u, 8u}}) {
    CloneRig fresh{RigConfig{}};
    Options options;
    options.hydration_threshold = threshold;
    options.hydration_batch_size = batch;
    fresh.origin->delay = milliseconds(20);
    fresh.engine().apply_live(options);
    std::uint64_t most = 0;
    for (int i = 0; i < 2000 && fresh.sim.step(); ++i) {
      most = std::max(most, fresh.engine().status().regions.hydrating);
    }
    EXPECT_EQ(most, threshold) << "batch " << batch;
    EXPECT_EQ(fresh.engine().status().hydration.threshold, threshold);
    EXPECT_EQ(fresh.engine().status().hydration.batch, batch);
  }
}

// dm-clone: "the maximum number of regions being copied at any one time", whatever the batch.
TEST_F(HydratorTest, a_batch_larger_than_the_rest_of_the_threshold_is_cut) {
  rig_.origin->delay = milliseconds(20);
  tune(3, 2);
  EXPECT_LE(most_in_flight(seconds(1)), 3u);
}

TEST_F(HydratorTest, waits_out_an_outage_and_ends_well) {
  tune(2, 2);
  rig_.origin->delay = milliseconds(20);
  rig_.sim.run_for(milliseconds(500));
  rig_.origin->reachable = false;
  rig_.sim.run_for(seconds(5));
  const std::uint64_t reads = rig_.origin->reads;
  const std::uint64_t there = rig_.engine().status().blocks.destination;
  ASSERT_GT(there, 0u);
  ASSERT_LT(there, kBlocks);
  rig_.sim.run_for(minutes(10));
  EXPECT_EQ(rig_.origin->reads, reads) << "it reads from an origin that is away";
  rig_.origin->reachable = true;
  const auto back = rig_.sim.now();
  rig_.hydrate_to_the_end();
  EXPECT_LE(rig_.sim.now() - back, seconds(15));
  EXPECT_EQ(image(), origin());
}

TEST_F(HydratorTest, a_copy_that_the_destination_refuses_is_not_believed_and_tried_again) {
  for (const auto effect : {FaultyDevice::Effect::none, FaultyDevice::Effect::done}) {
    CloneRig fresh{RigConfig{}};
    const Error error{make_error_code(Errc::destination_write), "on purpose"};
    fresh.destination->add(
        {.kinds = FaultyDevice::kWrite, .times = 2, .effect = effect, .error = error});
    fresh.hydrate_to_the_end();
    EXPECT_EQ(fresh.destination_disk->present().bytes({0, kBlocks * k4K}), origin());
    EXPECT_GE(fresh.engine().status().errors.destination, 1u);
  }
}

TEST_F(HydratorTest, a_zeroing_that_the_destination_refuses_is_tried_again) {
  ASSERT_TRUE(rig_.write(0, pattern(1, 8 * k4K)));
  ASSERT_TRUE(rig_.zero({0, 8 * k4K}, Zeroing::keep));
  const Error error{make_error_code(Errc::destination_write), "on purpose"};
  rig_.destination->add({.kinds = FaultyDevice::kZero, .times = 2, .error = error});
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.destination_disk->present().bytes({0, 8 * k4K}), Bytes(8 * k4K));
}

TEST_F(HydratorTest, stands_still_while_nothing_can_be_durable) {
  tune(1, 1);
  rig_.origin->delay = milliseconds(20);
  rig_.destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
  rig_.sim.run_for(milliseconds(100));
  ASSERT_FALSE(rig_.flush());
  rig_.sim.run_for(milliseconds(100));
  const std::uint64_t reads = rig_.origin->reads;
  rig_.sim.run_for(minutes(1));
  EXPECT_EQ(rig_.origin->reads, reads);
  ASSERT_TRUE(rig_.sim.run(rig_.engine().clear_needs_check()));
  rig_.hydrate_to_the_end();
  EXPECT_EQ(image(), origin());
}

// Found by random_test: the last copy lands while a READ of the same blocks is at the origin.
TEST_F(HydratorTest, completion_leaves_the_origin_to_the_commands_that_still_read_it) {
  rig_.origin->delay = seconds(2);
  Bytes into;
  Task<Result<>> read;
  const auto begin = [&] { read = rig_.begin_read({0, k4K}, into); };
  rig_.set_hydration(true);
  rig_.sim.run_for(milliseconds(1900));
  begin();  // Ends at 3.9 s, the copies at 2 s.
  const auto got = rig_.sim.run(std::move(read));
  EXPECT_TRUE(got) << got.error().message();
  EXPECT_EQ(into, rig_.origin_bytes({0, k4K}));
}

// Found by random_test: between the two edges of one write.
TEST_F(HydratorTest, a_write_whose_second_edge_was_copied_meanwhile_needs_no_origin) {
  rig_.origin->delay = seconds(2);
  rig_.set_hydration(true);
  rig_.sim.run_for(milliseconds(500));
  const Bytes data = pattern(5, k4K);
  Task<Result<>> write = rig_.begin_write(512, data);  // Reads block 0, then block 1.
  const auto done = rig_.sim.run(std::move(write));
  EXPECT_TRUE(done) << done.error().message();
  rig_.hydrate_to_the_end();
  Bytes expected = origin();
  std::ranges::copy(data, expected.begin() + 512);
  EXPECT_EQ(image(), expected);
}

}  // namespace
}  // namespace clonedev
