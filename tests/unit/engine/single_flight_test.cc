// Equal misses share one read of the origin, whoever they are.

#include <gtest/gtest.h>

#include <deque>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t k64K = 64 << 10;

class SingleFlightTest : public testing::Test {
 protected:
  struct Reader {
    Extent extent;
    Bytes into;
    Task<Result<>> task;
  };

  static RigConfig config() {
    RigConfig config;
    config.size = std::uint64_t{8} << 20;
    config.options.origin_timeout_ms = 2000;
    return config;
  }
  SingleFlightTest() {
    rig_.sim.run_for(milliseconds(1));  // Connected.
    rig_.origin->delay = milliseconds(100);
  }
  Reader& begin(Extent extent) {
    Reader& reader = readers_.emplace_back(Reader{extent, {}, {}});
    reader.task = rig_.begin_read(extent, reader.into);
    return reader;
  }
  void expect_right_answers() {
    for (Reader& reader : readers_) {
      const auto got = rig_.sim.run(std::move(reader.task));
      EXPECT_TRUE(got) << got.error().message();
      EXPECT_EQ(reader.into, rig_.origin_bytes(reader.extent)) << reader.extent.offset;
    }
    readers_.clear();
  }
  void hydrate(std::uint32_t threshold, std::uint32_t batch) {
    Options options = config().options;
    options.hydration = true;
    options.hydration_threshold = threshold;
    options.hydration_batch_size = batch;
    rig_.engine().apply_live(options);
  }

  CloneRig rig_{config()};
  std::deque<Reader> readers_;
};

TEST_F(SingleFlightTest, eight_equal_misses_are_one_read) {
  for (int i = 0; i < 8; ++i) {
    begin({k64K, k64K});
    rig_.sim.run_for(milliseconds(10));
  }
  expect_right_answers();
  EXPECT_EQ(rig_.origin->reads, 1u);
}

TEST_F(SingleFlightTest, sectors_of_one_block_are_one_read) {
  for (std::uint64_t sector = 0; sector < 8; ++sector) begin({5 * k4K + sector * 512, 512});
  expect_right_answers();
  EXPECT_EQ(rig_.origin->reads, 1u);
}

TEST_F(SingleFlightTest, what_lies_in_another_read_is_not_read_again) {
  begin({0, 4 * k64K});
  begin({k64K + 512, k4K});
  begin({3 * k64K, k64K});
  expect_right_answers();
  EXPECT_EQ(rig_.origin->reads, 1u);
}

TEST_F(SingleFlightTest, of_overlapping_reads_only_the_new_parts_are_read) {
  begin({2 * k64K, k64K});
  begin({0, 8 * k64K});  // Before it, it, and behind it.
  expect_right_answers();
  EXPECT_EQ(rig_.origin->reads, 3u);
}

TEST_F(SingleFlightTest, a_miss_on_what_hydration_fetches_joins_it) {
  hydrate(256, 256);  // One copy of 1 MiB at a time.
  rig_.sim.run_for(milliseconds(50));
  ASSERT_EQ(rig_.origin->reads, 1u);
  begin({k64K, k4K});
  begin({k64K, k4K});
  const auto start = rig_.sim.now();
  expect_right_answers();
  EXPECT_LE(rig_.sim.now() - start, milliseconds(50));
  EXPECT_LE(rig_.origin->reads, 2u) << "the hydrator's next one is the only other";
}

TEST_F(SingleFlightTest, hydration_joins_a_miss_and_reads_beside_it) {
  begin({0, k64K});
  hydrate(16, 16);
  rig_.sim.run_for(milliseconds(50));
  expect_right_answers();
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.link()->bytes_read(), config().size) << "something was read twice";
  EXPECT_EQ(rig_.destination_disk->present().bytes({0, config().size}),
            rig_.origin_bytes({0, config().size}));
}

TEST_F(SingleFlightTest, who_gives_up_takes_nothing_from_the_others) {
  rig_.origin->delay = milliseconds(2500);
  Reader& early = begin({0, k4K});
  rig_.sim.run_for(milliseconds(1000));
  Reader& late = begin({0, k4K});
  const auto first = rig_.sim.run(std::move(early.task));
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code, Errc::busy);
  const auto second = rig_.sim.run(std::move(late.task));
  EXPECT_TRUE(second) << second.error().message();
  EXPECT_EQ(late.into, rig_.origin_bytes({0, k4K}));
  EXPECT_EQ(rig_.origin->reads, 1u);
  readers_.clear();
}

TEST_F(SingleFlightTest, a_joiner_keeps_its_own_deadline) {
  hydrate(16, 16);
  rig_.origin->hang = true;
  rig_.sim.run_for(seconds(1));  // The hydrator would wait for minutes.
  const auto start = rig_.sim.now();
  const auto got = rig_.sim.run(std::move(begin({0, k4K}).task));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Errc::busy);
  EXPECT_GE(rig_.sim.now() - start, milliseconds(1900));
  EXPECT_LE(rig_.sim.now() - start, milliseconds(2100));
  readers_.clear();
}

TEST_F(SingleFlightTest, a_joiner_with_more_time_waits_out_a_reconnect_that_began_before_it) {
  rig_.origin->hang = true;
  Reader& early = begin({0, k4K});
  rig_.sim.run_for(milliseconds(1500));
  Reader& late = begin({0, k4K});
  rig_.sim.run_for(milliseconds(400));  // 100 ms before the first one's end:
  ++rig_.origin->epoch;                 // the connection breaks, and comes again
  rig_.origin->hang = false;
  rig_.origin->delay = milliseconds(300);  // after it.
  rig_.origin->released.wake_all();
  EXPECT_FALSE(rig_.sim.run(std::move(early.task)));
  const auto second = rig_.sim.run(std::move(late.task));
  EXPECT_TRUE(second) << second.error().message();
  EXPECT_EQ(late.into, rig_.origin_bytes({0, k4K}));
  readers_.clear();
}

TEST_F(SingleFlightTest, what_somebody_waited_for_in_vain_is_joined_by_nobody) {
  rig_.origin->hang = true;
  EXPECT_FALSE(rig_.sim.run(std::move(begin({0, k4K}).task)));
  EXPECT_EQ(rig_.origin->reads, 1u);
  begin({0, k4K});
  rig_.sim.run_for(milliseconds(1));
  EXPECT_EQ(rig_.origin->reads, 2u);
  rig_.origin->hang = false;
  rig_.origin->released.wake_all();
  readers_.pop_front();
  expect_right_answers();
}

TEST_F(SingleFlightTest, an_error_fails_all_who_wanted_the_same) {
  rig_.origin->bad_blocks = {3};
  for (int i = 0; i < 4; ++i) begin({2 * k4K, 4 * k4K});
  for (Reader& reader : readers_) {
    const auto got = rig_.sim.run(std::move(reader.task));
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Errc::origin_read);
  }
  EXPECT_EQ(rig_.origin->reads, 3u) << "one read, and its two more tries";
  readers_.clear();
}

TEST_F(SingleFlightTest, an_error_beside_what_is_wanted_fails_nobody) {
  rig_.origin->bad_blocks = {3};
  Reader& whole = begin({0, k64K});
  begin({5 * k4K, k4K});
  begin({5 * k4K, k4K});
  const auto failed = rig_.sim.run(std::move(whole.task));
  EXPECT_FALSE(failed);
  readers_.pop_front();
  expect_right_answers();
}

TEST_F(SingleFlightTest, a_bad_sector_leaves_the_others_of_its_block_readable) {
  rig_.origin->pace = [] { return milliseconds(1); };
  rig_.origin->bad_sectors = {5 * 8 + 3};
  EXPECT_FALSE(rig_.read({5 * k4K, k4K}));
  EXPECT_FALSE(rig_.read({5 * k4K + 3 * 512, 512}));
  EXPECT_EQ(*rig_.read({5 * k4K, 3 * 512}), rig_.origin_bytes({5 * k4K, 3 * 512}));
  EXPECT_EQ(*rig_.read({5 * k4K + 2048, 2048}), rig_.origin_bytes({5 * k4K + 2048, 2048}));
}

// The pool is full of what users wait for, so the hydrator's read has not begun.
TEST_F(SingleFlightTest, a_miss_brings_a_background_read_that_waits_for_memory_forward) {
  const std::uint64_t mib = 1 << 20;
  CloneRig large([] {
    RigConfig c = config();
    c.size = std::uint64_t{64} << 20;
    c.options.copy_on_read = false;
    return c;
  }());
  large.sim.run_for(milliseconds(1));
  large.origin->hang = true;
  std::deque<Reader> users;
  for (std::uint64_t i = 0; i < 13; ++i) {  // 13 of 16 MiB: background work gets 12.
    Reader& user = users.emplace_back(Reader{{(32 + i) * mib, mib}, {}, {}});
    user.task = large.begin_read(user.extent, user.into);
  }
  Options options;
  options.origin_timeout_ms = 2000;
  options.copy_on_read = false;
  options.hydration_threshold = options.hydration_batch_size = 256;
  large.engine().apply_live(options);
  large.sim.run_for(milliseconds(100));
  ASSERT_EQ(large.origin->reads, 13u) << "the hydrator's read waits for memory";
  Reader& joiner = users.emplace_back(Reader{{k64K, k4K}, {}, {}});
  joiner.task = large.begin_read(joiner.extent, joiner.into);
  large.sim.run_for(milliseconds(100));
  EXPECT_EQ(large.origin->reads, 14u);
  large.origin->hang = false;
  large.origin->released.wake_all();
  for (Reader& user : users) {
    EXPECT_TRUE(large.sim.run(std::move(user.task)));
    EXPECT_EQ(user.into, large.origin_bytes(user.extent));
  }
}

}  // namespace
}  // namespace clonedev
