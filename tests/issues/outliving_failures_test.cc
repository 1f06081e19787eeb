// A failure that could be written nowhere was forgotten by the next process; a close that waited
// for a dead destination said nothing.

#include <gtest/gtest.h>

#include <string>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::seconds;

TEST(OutlivingFailures, a_failure_that_metadata_cannot_take_is_known_to_the_next_process) {
  CloneRig rig(RigConfig{});
  const Bytes data = pattern(1, k4K);
  ASSERT_TRUE(rig.write(0, data));
  rig.destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
  rig.metadata_device->fail_all(true);
  ASSERT_FALSE(rig.flush());
  const auto next = rig.kill();
  ASSERT_TRUE(next->open());
  const auto flushed = next->flush();
  ASSERT_FALSE(flushed) << "what the destination lost would be promised again";
  EXPECT_EQ(flushed.error().code, make_error_code(Errc::needs_check));
  EXPECT_EQ(*next->read({0, k4K}), data);
  ASSERT_TRUE(next->sim.run(next->engine().clear_needs_check()));
  const auto after = next->kill();
  ASSERT_TRUE(after->open());
  EXPECT_TRUE(after->flush()) << "cleared, and still there";
}

std::string said;

TEST(OutlivingFailures, a_close_that_waits_for_the_destination_says_so) {
  CloneRig rig(RigConfig{});
  rig.destination_slow->hold(SlowDevice::kAny);
  const Bytes data = pattern(1, k4K);
  Task<Result<>> write = rig.begin_write(0, data);
  said.clear();
  set_log_sink([](int, const char* line) { said += line; });
  Task<Result<>> stop = rig.engine().stop();
  rig.sim.run_for(seconds(10));
  set_log_sink(nullptr);
  EXPECT_FALSE(stop.done());
  EXPECT_NE(said.find("closing waits for the destination"), std::string::npos) << said;
  EXPECT_EQ(rig.engine().status().mode, CloneMode::rw) << "the status answers";
  rig.destination_slow->release();
  EXPECT_TRUE(rig.sim.run(std::move(write)));
  EXPECT_TRUE(rig.sim.run(std::move(stop)));
}

}  // namespace
}  // namespace clonedev
