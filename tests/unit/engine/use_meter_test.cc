#include "engine/use_meter.h"

#include <gtest/gtest.h>

namespace clonedev {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

class UseMeterTest : public testing::Test {
 protected:
  // Commands of that length, one after the other with pauses.
  void use_for(UseMeter::Duration time, UseMeter::Duration command, UseMeter::Duration pause) {
    const UseMeter::TimePoint end = now_ + time;
    while (now_ < end) {
      meter_.begin(now_);
      now_ += command;
      meter_.end(now_);
      now_ += pause;
    }
  }
  double share() { return meter_.share(now_); }

  UseMeter meter_;
  UseMeter::TimePoint now_{std::chrono::hours(1)};
};

TEST_F(UseMeterTest, nobody_takes_nothing) { EXPECT_EQ(share(), 0); }

TEST_F(UseMeterTest, one_after_the_other_take_all_of_the_time) {
  use_for(seconds(1), microseconds(100), microseconds(100));
  EXPECT_GE(share(), 0.99);
}

TEST_F(UseMeterTest, one_long_command_takes_all_of_the_time) {
  meter_.begin(now_);
  now_ += seconds(1);
  EXPECT_GE(share(), 0.99);
}

TEST_F(UseMeterTest, a_command_now_and_then_takes_what_it_takes) {
  use_for(seconds(1), milliseconds(1), milliseconds(18));
  EXPECT_NEAR(share(), 2.0 / 19, 0.03);
}

TEST_F(UseMeterTest, a_load_that_begins_is_seen_within_a_tenth_of_a_second) {
  now_ += seconds(10);
  (void)share();
  use_for(milliseconds(100), microseconds(100), microseconds(10));
  EXPECT_GE(share(), 0.5);
  use_for(milliseconds(100), microseconds(100), microseconds(10));
  EXPECT_GE(share(), 0.9);
}

TEST_F(UseMeterTest, a_load_that_has_ended_is_forgotten) {
  use_for(seconds(10), microseconds(100), microseconds(10));
  for (int i = 0; i < 30; ++i) {
    now_ += milliseconds(10);
    (void)share();
  }
  EXPECT_EQ(share(), 0);
}

TEST_F(UseMeterTest, a_load_that_ended_long_ago_is_forgotten_at_once) {
  use_for(seconds(10), microseconds(100), microseconds(10));
  now_ += seconds(10);
  EXPECT_LE(share(), 0.01);
}

}  // namespace
}  // namespace clonedev
