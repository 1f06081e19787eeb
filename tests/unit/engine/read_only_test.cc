// ro=on: users look and change nothing, while the clone itself works as ever.

#include <gtest/gtest.h>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

RigConfig read_only() {
  RigConfig config;
  config.options.read_only = true;
  return config;
}

TEST(ReadOnly, refuses_whatever_changes_data_and_says_why) {
  CloneRig rig(read_only());
  EXPECT_TRUE(rig.engine().write_protected());
  const Bytes before = rig.origin_bytes({0, 1 << 20});
  const Bytes first(before.begin(), before.begin() + 512);
  for (const auto& refused :
       {rig.write(0, pattern(1, k4K)), rig.write(512, pattern(2, 512)), rig.zero({0, 8 * k4K}),
        rig.zero({k4K, k4K}, Zeroing::keep), rig.compare_and_write(0, first, pattern(3, 512))}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, make_error_code(Errc::refused));
    EXPECT_NE(refused.error().message().find("ro=on"), std::string::npos);
  }
  EXPECT_TRUE(rig.flush());
  EXPECT_EQ(rig.metadata().map().counts().origin, 256u) << "something was written";
  EXPECT_EQ(*rig.read({0, 1 << 20}), before);
}

TEST(ReadOnly, hydrates_and_completes_and_is_no_failure) {
  CloneRig rig(read_only());
  EXPECT_EQ(rig.engine().status().mode, CloneMode::ro);
  EXPECT_EQ(rig.engine().status().state, CloneState::paused);
  EXPECT_EQ(rig.engine().status().reason, "");
  rig.hydrate_to_the_end();
  EXPECT_EQ(rig.engine().status().state, CloneState::complete);
  EXPECT_EQ(*rig.read({0, 1 << 20}), rig.origin_bytes({0, 1 << 20}));
  EXPECT_FALSE(rig.write(0, pattern(1, k4K)));
}

TEST(ReadOnly, stays_so_when_the_admin_has_cleared_needs_check) {
  CloneRig rig(read_only());
  rig.destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
  EXPECT_FALSE(rig.flush());
  EXPECT_EQ(rig.engine().status().state, CloneState::failed);
  ASSERT_TRUE(rig.sim.run(rig.engine().clear_needs_check()));
  EXPECT_TRUE(rig.engine().write_protected());
  EXPECT_FALSE(rig.write(0, pattern(1, k4K)));
}

}  // namespace
}  // namespace clonedev
