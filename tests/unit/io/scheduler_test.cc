#include "io/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "io/task.h"
#include "support/sim_scheduler.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

// A scheduler whose inside can be driven by hand.
class ManualScheduler final : public Scheduler {
 public:
  using Scheduler::fire_due_timers;
  using Scheduler::has_ready;
  using Scheduler::next_timer;
  using Scheduler::run_ready;
  using Scheduler::Running;

  TimePoint now() const override { return time; }
  TimePoint time{milliseconds(1000)};
};

struct NotingTimer : Scheduler::Timer {
  NotingTimer(std::vector<int>& out, int id) : Timer(&fire), log(out), number(id) {}
  static void fire(Timer& timer) {
    auto& self = static_cast<NotingTimer&>(timer);
    self.log.push_back(self.number);
  }
  std::vector<int>& log;
  int number;
};

Task<> note_after(Scheduler& scheduler, milliseconds pause, std::vector<int>& log, int number) {
  co_await scheduler.sleep_for(pause);
  log.push_back(number);
}

TEST(Scheduler, resumes_in_the_order_in_which_coroutines_became_ready) {
  ManualScheduler scheduler;
  const ManualScheduler::Running scope(&scheduler);
  std::vector<int> log;
  for (int i = 0; i < 5; ++i) spawn(note_after(scheduler, milliseconds(1), log, i));
  scheduler.time += milliseconds(1);
  scheduler.fire_due_timers();
  EXPECT_TRUE(log.empty()) << "a timer resumed a coroutine from its own stack";
  scheduler.run_ready(3);
  EXPECT_EQ(log, (std::vector<int>{0, 1, 2})) << "no more than the budget";
  EXPECT_TRUE(scheduler.has_ready());
  scheduler.run_ready(100);
  EXPECT_EQ(log, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(Scheduler, fires_timers_by_their_time_and_equal_ones_by_arrival) {
  ManualScheduler scheduler;
  std::vector<int> log;
  NotingTimer late(log, 3), early(log, 1), also_early(log, 2), never(log, 4);
  scheduler.arm(late, scheduler.time + milliseconds(20));
  scheduler.arm(never, scheduler.time + milliseconds(5));
  scheduler.arm(early, scheduler.time + milliseconds(10));
  scheduler.arm(also_early, scheduler.time + milliseconds(10));
  scheduler.disarm(never);
  EXPECT_EQ(scheduler.next_timer(), scheduler.time + milliseconds(10));
  scheduler.fire_due_timers();
  EXPECT_TRUE(log.empty());
  scheduler.time += milliseconds(10);
  scheduler.fire_due_timers();
  EXPECT_EQ(log, (std::vector<int>{1, 2}));
  scheduler.time += milliseconds(10);
  scheduler.fire_due_timers();
  EXPECT_EQ(log, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(scheduler.next_timer(), Scheduler::TimePoint::max());
}

TEST(Scheduler, lets_a_fired_or_disarmed_timer_be_armed_again) {
  ManualScheduler scheduler;
  std::vector<int> log;
  NotingTimer timer(log, 1);
  for (int i = 0; i < 2; ++i) {
    scheduler.arm(timer, scheduler.time);
    scheduler.fire_due_timers();
    scheduler.arm(timer, scheduler.time);
    scheduler.disarm(timer);
    scheduler.disarm(timer);
  }
  EXPECT_EQ(log, (std::vector<int>{1, 1}));
}

TEST(Scheduler, does_not_suspend_a_sleep_that_is_over) {
  ManualScheduler scheduler;
  std::vector<int> log;
  spawn(note_after(scheduler, milliseconds(0), log, 1));
  spawn(note_after(scheduler, milliseconds(-5), log, 2));
  EXPECT_EQ(log, (std::vector<int>{1, 2}));
}

TEST(Scheduler, is_current_in_its_scope_and_the_outer_one_is_again_afterwards) {
  ManualScheduler outer;
  ManualScheduler inner;
  const ManualScheduler::Running outer_scope(&outer);
  EXPECT_EQ(&Scheduler::current(), &outer);
  {
    const ManualScheduler::Running inner_scope(&inner);
    EXPECT_EQ(&Scheduler::current(), &inner);
  }
  EXPECT_EQ(&Scheduler::current(), &outer);
}

std::vector<int> order_with_seed(std::uint64_t seed) {
  SimScheduler sim(seed);
  std::vector<int> log;
  for (int i = 0; i < 20; ++i) spawn(note_after(sim, milliseconds(1), log, i));
  sim.run_for(milliseconds(1));
  return log;
}

TEST(SimScheduler, permutes_by_seed_and_repeats_itself) {
  const std::vector<int> in_order = order_with_seed(0);
  EXPECT_TRUE(std::is_sorted(in_order.begin(), in_order.end()));
  EXPECT_EQ(order_with_seed(5), order_with_seed(5));
  EXPECT_NE(order_with_seed(5), order_with_seed(6));
  EXPECT_NE(order_with_seed(5), in_order);
  EXPECT_EQ(order_with_seed(5).size(), in_order.size());
}

TEST(SimScheduler, jumps_to_the_next_timer_and_no_further) {
  SimScheduler sim;
  std::vector<int> log;
  const auto start = sim.now();
  spawn(note_after(sim, milliseconds(30), log, 2));
  sim.run(note_after(sim, milliseconds(10), log, 1));
  EXPECT_EQ(sim.now() - start, milliseconds(10));
  EXPECT_EQ(log, std::vector<int>{1});
  sim.run_for(milliseconds(100));
  EXPECT_EQ(log, (std::vector<int>{1, 2}));
  EXPECT_EQ(sim.now() - start, milliseconds(110));
}

}  // namespace
}  // namespace clonedev
