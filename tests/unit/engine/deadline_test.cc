// One command, one deadline, however often it needs the origin (I14).

#include <gtest/gtest.h>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class DeadlineTest : public testing::Test {
 protected:
  static RigConfig config() {
    RigConfig config;
    config.options.origin_timeout_ms = 5000;
    return config;
  }
  DeadlineTest() {
    EXPECT_TRUE(rig_.read({0, k4K}));  // Connected.
    rig_.origin->delay = milliseconds(4000);
  }

  CloneRig rig_{config()};
};

// Two time-outs of 20 s would be more than the kernel's cmd_time_out of 30 s.
TEST_F(DeadlineTest, a_zeroing_with_two_edges_waits_no_longer_than_one_time_out) {
  const auto start = rig_.sim.now();
  const auto outcome = rig_.zero({512, 3 * k4K});
  EXPECT_LE(rig_.sim.now() - start, milliseconds(5100)) << (outcome ? "done" : "failed");
  if (outcome) return;
  EXPECT_EQ(outcome.error().code, Errc::busy);
  rig_.origin->delay = {};
  EXPECT_EQ(*rig_.read({0, 4 * k4K}), rig_.origin_bytes({0, 4 * k4K})) << "BUSY had an effect";
}

TEST_F(DeadlineTest, a_write_with_two_edges_waits_no_longer_than_one_time_out) {
  const auto start = rig_.sim.now();
  const auto outcome = rig_.write(512, pattern(1, 3 * k4K));
  EXPECT_LE(rig_.sim.now() - start, milliseconds(5100));
  if (outcome) return;
  EXPECT_EQ(outcome.error().code, Errc::busy);
  rig_.origin->delay = {};
  EXPECT_EQ(*rig_.read({0, 4 * k4K}), rig_.origin_bytes({0, 4 * k4K})) << "BUSY had an effect";
}

}  // namespace
}  // namespace clonedev
