// What users read from the origin is kept on the destination, behind their answers.

#include "engine/copy_on_read.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kKeptBlocks = 256;

class CopyOnReadTest : public testing::Test {
 protected:
  static RigConfig config() {
    RigConfig config;
    config.size = kKeptBlocks * k4K;
    config.options.origin_timeout_ms = 2000;
    return config;
  }
  CopyOnReadTest() {
    rig_.sim.run_for(milliseconds(1));  // Connected.
    rig_.origin->delay = milliseconds(10);
  }
  void expect_copied(BlockRange blocks) {
    for (std::uint64_t block = blocks.first; block < blocks.end(); ++block) {
      EXPECT_EQ(rig_.state(block), BlockState::copied) << block;
    }
    const Extent bytes{blocks.first * k4K, blocks.count * k4K};
    EXPECT_EQ(rig_.destination_disk->present().bytes(bytes), rig_.origin_bytes(bytes));
  }
  // A read has been answered, and its copy is being written.
  void begin_copy(Extent extent) {
    rig_.destination_slow->hold(SlowDevice::kWrite);
    ASSERT_TRUE(rig_.read(extent));
    rig_.sim.settle();
    ASSERT_EQ(rig_.destination_slow->in_flight(), 1u);
  }
  void switch_to(bool copy_on_read) {
    Options options = config().options;
    options.copy_on_read = copy_on_read;
    rig_.engine().apply_live(options);
  }

  CloneRig rig_{config()};
};

TEST_F(CopyOnReadTest, a_second_read_needs_no_origin) {
  EXPECT_EQ(*rig_.read({8 * k4K, 8 * k4K}), rig_.origin_bytes({8 * k4K, 8 * k4K}));
  rig_.sim.settle();
  expect_copied({8, 8});
  EXPECT_EQ(rig_.state(16), BlockState::origin);
  const std::uint64_t reads = rig_.origin->reads;
  const auto start = rig_.sim.now();
  EXPECT_EQ(*rig_.read({8 * k4K, 8 * k4K}), rig_.origin_bytes({8 * k4K, 8 * k4K}));
  EXPECT_EQ(rig_.origin->reads, reads);
  EXPECT_EQ(rig_.sim.now(), start);
  EXPECT_EQ(rig_.engine().status().blocks.copied, 8u);
}

TEST_F(CopyOnReadTest, a_read_of_a_sector_keeps_its_block) {
  EXPECT_EQ(*rig_.read({5 * k4K + 512, 512}), rig_.origin_bytes({5 * k4K + 512, 512}));
  rig_.sim.settle();
  expect_copied({5, 1});
}

TEST_F(CopyOnReadTest, counts_in_the_rate_of_the_status) {
  rig_.sim.run_for(seconds(2));
  ASSERT_TRUE(rig_.read({0, 128 * k4K}));
  rig_.sim.run_for(seconds(1));
  EXPECT_GT(rig_.engine().status().hydration.rate_bytes_per_s, 0u);
}

TEST_F(CopyOnReadTest, readers_are_answered_while_the_destination_stalls) {
  begin_copy({0, 4 * k4K});
  const std::uint64_t reads = rig_.origin->reads;
  const auto start = rig_.sim.now();
  EXPECT_EQ(*rig_.read({k4K, 512}), rig_.origin_bytes({k4K, 512}));
  EXPECT_EQ(rig_.sim.now(), start) << "it has been fetched already";
  EXPECT_EQ(rig_.origin->reads, reads);
  EXPECT_EQ(rig_.state(0), BlockState::origin);
  rig_.destination_slow->release();
  rig_.sim.settle();
  expect_copied({0, 4});
}

TEST_F(CopyOnReadTest, is_switched_while_the_disk_is_in_use) {
  switch_to(false);
  EXPECT_FALSE(rig_.engine().status().hydration.copy_on_read);
  ASSERT_TRUE(rig_.read({0, k4K}));
  rig_.sim.run_for(seconds(1));
  EXPECT_EQ(rig_.state(0), BlockState::origin);
  EXPECT_EQ(rig_.destination->count(FaultyDevice::kWrite), 0u);
  switch_to(true);
  ASSERT_TRUE(rig_.read({0, k4K}));
  rig_.sim.settle();
  expect_copied({0, 1});
}

TEST_F(CopyOnReadTest, what_changes_while_the_origin_is_read_stays) {
  Bytes into;
  Task<Result<>> read = rig_.begin_read({0, 8 * k4K}, into);
  rig_.sim.run_for(milliseconds(5));
  const Bytes data = pattern(7, k4K);
  ASSERT_TRUE(rig_.write(2 * k4K, data));
  ASSERT_TRUE(rig_.zero({4 * k4K, k4K}));
  ASSERT_TRUE(rig_.zero({5 * k4K, k4K}, Zeroing::keep));
  ASSERT_TRUE(rig_.flush());
  ASSERT_TRUE(rig_.sim.run(std::move(read)));
  rig_.sim.run_for(seconds(1));
  Bytes expected = rig_.origin_bytes({0, 8 * k4K});
  std::ranges::copy(data, expected.begin() + 2 * k4K);
  std::fill_n(expected.begin() + 4 * k4K, 2 * k4K, std::byte{0});
  EXPECT_EQ(*rig_.read({0, 8 * k4K}), expected);
  EXPECT_EQ(rig_.state(2), BlockState::destination);
  EXPECT_EQ(rig_.state(3), BlockState::copied);
  EXPECT_EQ(rig_.state(4), BlockState::zero);
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.destination_disk->present().bytes({0, 8 * k4K}), expected);
}

TEST_F(CopyOnReadTest, what_comes_while_it_lands_waits_and_wins) {
  begin_copy({0, 8 * k4K});
  const Bytes data = pattern(7, 512);
  Task<Result<>> write = rig_.begin_write(2 * k4K + 512, data);
  Task<Result<>> discard = rig_.engine().zero({4 * k4K, k4K}, Zeroing::deallocate, false);
  rig_.sim.run_for(milliseconds(100));
  EXPECT_FALSE(write.done());
  EXPECT_FALSE(discard.done());
  rig_.destination_slow->release();
  EXPECT_TRUE(rig_.sim.run(std::move(write)));
  EXPECT_TRUE(rig_.sim.run(std::move(discard)));
  Bytes expected = rig_.origin_bytes({0, 8 * k4K});
  std::ranges::copy(data, expected.begin() + 2 * k4K + 512);
  std::fill_n(expected.begin() + 4 * k4K, k4K, std::byte{0});
  EXPECT_EQ(*rig_.read({0, 8 * k4K}), expected);
}

TEST_F(CopyOnReadTest, a_power_cut_at_any_moment_leaves_the_origins_data) {
  rig_.destination_slow->set_delays({.write = {milliseconds(3), milliseconds(9)}});
  std::deque<Bytes> targets;
  std::vector<Task<Result<>>> reads;
  for (std::uint64_t step = 0; step < 60; ++step) {
    reads.push_back(rig_.begin_read({step * 4 * k4K + 512, k4K}, targets.emplace_back()));
    if (step % 5 == 4) reads.push_back(rig_.engine().flush());
    rig_.sim.run_for(milliseconds(7));
    const auto cut = rig_.power_cut(step, step % 2);
    ASSERT_TRUE(cut->open());
    EXPECT_EQ(*cut->read({0, kKeptBlocks * k4K}), rig_.origin_bytes({0, kKeptBlocks * k4K}))
        << step;
    const auto killed = rig_.kill();
    ASSERT_TRUE(killed->open());
    EXPECT_EQ(*killed->read({0, kKeptBlocks * k4K}), rig_.origin_bytes({0, kKeptBlocks * k4K}))
        << step;
  }
  for (auto& read : reads) EXPECT_TRUE(rig_.sim.run(std::move(read)));
  EXPECT_GT(rig_.engine().status().blocks.copied, 100u);
}

TEST_F(CopyOnReadTest, what_a_reader_gave_up_is_kept_when_it_comes) {
  rig_.origin->delay = milliseconds(2500);
  const auto got = rig_.read({0, k4K});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Errc::busy);
  rig_.sim.run_for(seconds(1));
  expect_copied({0, 1});
}

TEST_F(CopyOnReadTest, nothing_is_kept_while_nothing_can_be_durable) {
  rig_.destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
  ASSERT_TRUE(rig_.write(100 * k4K, pattern(1, k4K)));
  ASSERT_FALSE(rig_.flush());
  EXPECT_EQ(*rig_.read({0, k4K}), rig_.origin_bytes({0, k4K}));
  rig_.sim.run_for(seconds(1));
  EXPECT_EQ(rig_.state(0), BlockState::origin);
  ASSERT_TRUE(rig_.sim.run(rig_.engine().clear_needs_check()));
  ASSERT_TRUE(rig_.read({0, k4K}));
  rig_.sim.settle();
  expect_copied({0, 1});
}

TEST_F(CopyOnReadTest, a_full_destination_is_tried_now_and_then_only) {
  rig_.destination->add({.kinds = FaultyDevice::kWrite,
                         .error = {make_error_code(Errc::no_space), "dest: write: full"}});
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(rig_.read({0, k4K})) << "the reader is answered";
  EXPECT_EQ(rig_.engine().status().hydration.held_up_by, "dest: write: full");
  EXPECT_LT(rig_.destination->count(FaultyDevice::kWrite), 10u);
  rig_.destination->clear();
  rig_.sim.run_for(seconds(31));
  ASSERT_TRUE(rig_.read({0, k4K}));
  rig_.sim.settle();
  expect_copied({0, 1});
  EXPECT_EQ(rig_.engine().status().hydration.held_up_by, "");
}

TEST_F(CopyOnReadTest, a_destination_that_does_not_keep_up_gets_no_queue) {
  RigConfig large = config();
  large.size = 32 * kMiB;
  CloneRig rig(large);
  rig.destination_slow->hold(SlowDevice::kWrite);
  for (std::uint64_t i = 0; i < 32; ++i) ASSERT_TRUE(rig.read({i * kMiB, kMiB}));
  rig.sim.settle();
  EXPECT_LE(rig.destination_slow->in_flight(), 4u) << "a quarter of 16 MiB";
  EXPECT_GE(rig.destination_slow->in_flight(), 1u);
  rig.destination_slow->release();
  rig.sim.settle();
  EXPECT_EQ(rig.engine().status().blocks.copied, 4 * kMiB / k4K);
}

TEST_F(CopyOnReadTest, close_waits_for_what_lands) {
  begin_copy({0, k4K});
  Task<Result<>> stop = rig_.engine().stop();
  rig_.sim.run_for(seconds(10));
  EXPECT_FALSE(stop.done());
  rig_.destination_slow->release();
  EXPECT_TRUE(rig_.sim.run(std::move(stop)));
  EXPECT_EQ(rig_.destination_slow->in_flight(), 0u);
}

TEST_F(CopyOnReadTest, reads_of_everything_make_the_clone_complete) {
  ASSERT_TRUE(rig_.read({0, kKeptBlocks * k4K}));
  rig_.sim.run_for(seconds(3));
  EXPECT_TRUE(rig_.engine().complete());
  EXPECT_EQ(rig_.destination_disk->present().bytes({0, kKeptBlocks * k4K}),
            rig_.origin_bytes({0, kKeptBlocks * k4K}));
}

}  // namespace
}  // namespace clonedev
