// clear_needs_check that came while a flush was under way forgot the failure with which that flush
// then ended, and which no admin had seen.

#include <gtest/gtest.h>

#include "support/clone_rig.h"

namespace clonedev {
namespace {

TEST(ClearingTooEarly, forgets_no_failure_that_is_still_to_come) {
  CloneRig rig{RigConfig{}};
  ASSERT_TRUE(rig.write(0, pattern(1, 4096)));
  rig.destination_slow->hold(SlowDevice::kFlush);
  rig.destination->add(
      {.kinds = FaultyDevice::kFlush, .times = 1, .effect = FaultyDevice::Effect::done});
  Task<Result<>> flush = rig.engine().flush();
  rig.sim.settle();
  Task<Result<>> clear = rig.engine().clear_needs_check();
  rig.sim.settle();
  rig.destination_slow->release();
  EXPECT_FALSE(rig.sim.run(std::move(flush)));
  EXPECT_FALSE(rig.sim.run(std::move(clear)));
  EXPECT_EQ(rig.engine().status().mode, CloneMode::ro);
  EXPECT_TRUE(rig.sim.run(rig.engine().clear_needs_check())) << "now it has been seen";
  EXPECT_TRUE(rig.flush());
}

}  // namespace
}  // namespace clonedev
