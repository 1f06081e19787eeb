#include "sharing/answer_clock.h"

#include <gtest/gtest.h>

namespace clonedev {
namespace {

using namespace std::chrono_literals;

const auto kStart = AnswerClock::Time() + 1h;
constexpr auto kTimeout = 10s;

TEST(AnswerClock, one_that_was_overtaken_is_left_alone) {
  AnswerClock clock;
  clock.ask(kStart);
  for (int second = 1; second <= 12; ++second) clock.end(clock.ask(kStart + second * 1s), true);
  EXPECT_FALSE(clock.leaves_one_alone(kStart + 20s, kTimeout));
  EXPECT_TRUE(clock.leaves_one_alone(kStart + 21s, kTimeout));
}

TEST(AnswerClock, a_server_that_is_slow_with_everything_leaves_nothing_alone) {
  AnswerClock clock;
  std::list<AnswerClock::Asked> open;
  for (int second = 0; second < 100; ++second) {
    if (second >= 60) {  // A minute late, in order.
      clock.end(open.front(), true);
      open.pop_front();
    }
    EXPECT_FALSE(clock.leaves_one_alone(kStart + second * 1s, kTimeout)) << second;
    open.push_back(clock.ask(kStart + second * 1s));
  }
}

TEST(AnswerClock, a_lost_connection_answers_nothing) {
  AnswerClock clock;
  clock.ask(kStart);
  clock.end(clock.ask(kStart + 15s), false);
  EXPECT_FALSE(clock.leaves_one_alone(kStart + 1h, kTimeout));
}

}  // namespace
}  // namespace clonedev
