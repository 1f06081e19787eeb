// The kernel gives a command up after cmd_time_out, though its I/O may be stuck in the destination
// for longer (I14). The initiator then goes on, and writes there again. Overlapping writes were let
// through side by side, "as on any disk", so the old one could land on top of the new one, which
// was acknowledged.

#include <gtest/gtest.h>

#include "support/clone_rig.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t k4K = 4096;

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

}  // namespace
}  // namespace clonedev
