// The kernel gives a command up after cmd_time_out, though its I/O may be stuck in the destination
// for longer (I14). The initiator then goes on, and writes there again. Overlapping writes were let
// through side by side, "as on any disk", so the old one could land on top of the new one, which
// was acknowledged.

#include <gtest/gtest.h>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LateWrites : public testing::Test {
 protected:
  void slow_writes(Scheduler::Duration delay) {
    rig_.destination_slow->set_delays({.write = {delay, delay}});
  }

  CloneRig rig_{RigConfig{}};
};

TEST_F(LateWrites, a_write_stuck_in_the_destination_never_lands_on_a_newer_one) {
  const Bytes older = pattern(1, 2 * k4K);
  const Bytes newer = pattern(2, 2 * k4K);
  slow_writes(seconds(60));
  Task<Result<>> stuck = rig_.begin_write(0, older);
  rig_.sim.run_for(milliseconds(1));
  ASSERT_EQ(rig_.destination_slow->in_flight(), 1u);
  slow_writes({});
  EXPECT_TRUE(rig_.write(k4K, newer));
  EXPECT_TRUE(rig_.sim.run(std::move(stuck)));
  EXPECT_EQ(*rig_.read({k4K, 2 * k4K}), newer);
}

TEST_F(LateWrites, other_bytes_of_the_same_block_need_not_wait_for_it) {
  ASSERT_TRUE(rig_.write(0, pattern(1, k4K)));
  const Bytes sector = pattern(2, 512);
  slow_writes(seconds(60));
  Task<Result<>> stuck = rig_.begin_write(0, sector);
  rig_.sim.run_for(milliseconds(1));
  slow_writes({});
  EXPECT_TRUE(rig_.write(512, pattern(3, 512)));
  EXPECT_FALSE(stuck.done());
  EXPECT_TRUE(rig_.sim.run(std::move(stuck)));
}

// A complete clone zeroes its destination itself. The bytes before and behind the whole blocks took
// their place in the line only after these, when the kernel may have given the command up.
TEST_F(LateWrites,
       the_edges_of_a_zeroing_never_land_on_what_is_written_while_its_blocks_take_long) {
  rig_.hydrate_to_the_end();
  ASSERT_TRUE(rig_.engine().complete());
  const Extent extent{k4K - 512, 2 * k4K + 1024};
  rig_.destination_slow->set_delays({.zero = {seconds(60), seconds(60)}});
  Task<Result<>> stuck = rig_.engine().zero(extent, Zeroing::keep, false);
  rig_.sim.run_for(milliseconds(1));
  const Bytes head = pattern(1, 512);
  const Bytes tail = pattern(2, 512);
  EXPECT_TRUE(rig_.write(extent.offset, head));
  EXPECT_TRUE(rig_.write(extent.end() - 512, tail));
  EXPECT_FALSE(stuck.done());
  EXPECT_TRUE(rig_.sim.run(std::move(stuck)));
  EXPECT_EQ(*rig_.read({extent.offset, 512}), head);
  EXPECT_EQ(*rig_.read({k4K, 2 * k4K}), Bytes(2 * k4K));
  EXPECT_EQ(*rig_.read({extent.end() - 512, 512}), tail);
}

// Its parts took their places in the line one after the other: held up at its head, a zeroing came
// to its blocks when the kernel may have given it up.
TEST_F(LateWrites, a_zeroing_held_up_at_its_head_never_lands_on_what_is_written_behind_it) {
  ASSERT_TRUE(rig_.write(0, pattern(1, 4 * k4K)));
  slow_writes(seconds(60));
  const Bytes before = pattern(2, 512);
  Task<Result<>> older = rig_.begin_write(k4K - 512, before);
  rig_.sim.run_for(milliseconds(1));
  slow_writes({});
  Task<Result<>> zeroing = rig_.engine().zero({k4K - 512, 2 * k4K + 1024}, Zeroing::keep, false);
  rig_.sim.run_for(seconds(40));
  ASSERT_FALSE(zeroing.done());
  const Bytes newer = pattern(3, k4K);
  const Bytes tail = pattern(4, 512);
  EXPECT_TRUE(rig_.write(k4K, newer));
  EXPECT_TRUE(rig_.write(3 * k4K, tail));
  EXPECT_TRUE(rig_.sim.run(std::move(older)));
  EXPECT_TRUE(rig_.sim.run(std::move(zeroing)));
  EXPECT_EQ(*rig_.read({k4K - 512, 512}), Bytes(512));
  EXPECT_EQ(*rig_.read({k4K, k4K}), newer);
  EXPECT_EQ(*rig_.read({2 * k4K, k4K}), Bytes(k4K));
  EXPECT_EQ(*rig_.read({3 * k4K, 512}), tail);
}

}  // namespace
}  // namespace clonedev
