// A destination that was full, or broken, made hydration read the whole origin in vain, pass after
// pass, with a line in the log for each extent; and the status did not say why nothing moved.

#include <gtest/gtest.h>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

class DestinationFull : public testing::Test {
 protected:
  DestinationFull() {
    rig_.destination->add({.kinds = FaultyDevice::kWrite,
                           .error = {make_error_code(Errc::no_space), "dest: write: full"}});
    Options options;
    options.hydration_batch_size = 1;  // So a pass is 256 copies.
    rig_.engine().apply_live(options);
  }
  std::string held_up_by() { return rig_.engine().status().hydration.held_up_by; }

  CloneRig rig_{RigConfig{}};
};

TEST_F(DestinationFull, hydration_says_so_and_reads_next_to_nothing_in_vain) {
  rig_.sim.run_for(minutes(10));
  EXPECT_EQ(held_up_by(), "dest: write: full");
  EXPECT_LT(rig_.origin->reads, 100u);
  EXPECT_EQ(rig_.engine().status().blocks.destination, 0u);
  EXPECT_TRUE(rig_.read({0, k4K})) << "reads go on";
}

TEST_F(DestinationFull, hydration_goes_on_by_itself_when_there_is_space) {
  rig_.sim.run_for(minutes(10));
  rig_.destination->clear();
  rig_.sim.run_for(seconds(61));
  EXPECT_EQ(held_up_by(), "");
  EXPECT_TRUE(rig_.engine().complete());
}

TEST_F(DestinationFull, a_single_bad_place_holds_nothing_else_up) {
  rig_.destination->clear();
  rig_.destination->add({.kinds = FaultyDevice::kWrite,
                         .range = {100 * k4K, k4K},
                         .error = {make_error_code(Errc::destination_write), "dest: bad"}});
  rig_.sim.run_for(minutes(1));
  EXPECT_EQ(rig_.engine().status().blocks.destination, 255u);
}

}  // namespace
}  // namespace clonedev
