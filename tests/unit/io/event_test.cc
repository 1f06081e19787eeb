#include "io/event.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <vector>

#include "io/task.h"
#include "support/sim_scheduler.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

struct Outcome {
  std::optional<bool> signalled;
  Scheduler::TimePoint at;
};

Task<> wait_for(Event& event, Outcome& outcome) {
  outcome.signalled = co_await event.wait();
  outcome.at = Scheduler::current().now();
}

Task<> wait_until(Event& event, Scheduler::TimePoint deadline, Outcome& outcome) {
  outcome.signalled = co_await event.wait_until(deadline);
  outcome.at = Scheduler::current().now();
}

TEST(Event, wakes_every_waiter_and_lets_later_ones_pass_until_it_is_reset) {
  SimScheduler sim;
  Event event;
  std::vector<Outcome> outcomes(5);
  for (Outcome& outcome : outcomes) spawn(wait_for(event, outcome));
  sim.settle();
  EXPECT_FALSE(outcomes[0].signalled);
  event.set();
  sim.settle();
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.signalled, true);

  Outcome later;
  spawn(wait_for(event, later));
  EXPECT_EQ(later.signalled, true) << "a set event suspends nobody";
  event.reset();
  EXPECT_FALSE(event.is_set());
  Outcome after_reset;
  spawn(wait_for(event, after_reset));
  sim.settle();
  EXPECT_FALSE(after_reset.signalled);
  event.set();
  sim.settle();
  EXPECT_EQ(after_reset.signalled, true);
}

TEST(Event, wakes_the_waiters_of_the_moment_only) {
  SimScheduler sim;
  Event event;
  Outcome before, after;
  spawn(wait_for(event, before));
  event.wake_all();
  spawn(wait_for(event, after));
  sim.settle();
  EXPECT_EQ(before.signalled, true);
  EXPECT_FALSE(after.signalled);
  EXPECT_FALSE(event.is_set());
  event.wake_all();
  sim.settle();
}

TEST(Event, tells_the_deadline_from_the_signal) {
  SimScheduler sim;
  Event event;
  Outcome short_one, long_one;
  const auto start = sim.now();
  spawn(wait_until(event, start + milliseconds(10), short_one));
  spawn(wait_until(event, start + milliseconds(50), long_one));
  sim.run_for(milliseconds(20));
  EXPECT_EQ(short_one.signalled, false);
  EXPECT_EQ(short_one.at, start + milliseconds(10));
  EXPECT_FALSE(long_one.signalled);
  event.wake_all();
  sim.settle();
  EXPECT_EQ(long_one.signalled, true);
  EXPECT_EQ(long_one.at, start + milliseconds(20));
  EXPECT_FALSE(sim.step()) << "a timer of a waiter that was woken is still armed";
}

TEST(Event, ends_a_wait_once_when_signal_and_deadline_meet) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SimScheduler sim(seed);
    Event event;
    std::vector<Outcome> outcomes(10);
    const auto due = sim.now() + milliseconds(10);
    for (Outcome& outcome : outcomes) spawn(wait_until(event, due, outcome));
    spawn([](Scheduler& scheduler, Event& e, Scheduler::TimePoint at) -> Task<> {
      co_await scheduler.sleep_until(at);
      e.wake_all();
    }(sim, event, due));
    sim.run_for(milliseconds(10));
    for (const Outcome& outcome : outcomes) EXPECT_TRUE(outcome.signalled.has_value());
    EXPECT_FALSE(sim.step());
  }
}

TEST(Event, ends_a_wait_at_once_whose_deadline_has_passed) {
  SimScheduler sim;
  Event event;
  Outcome outcome;
  const auto start = sim.now();
  spawn(wait_until(event, start - milliseconds(1), outcome));
  sim.run_for(milliseconds(0));
  EXPECT_EQ(outcome.signalled, false);
  Outcome set_before;
  event.set();
  spawn(wait_until(event, start - milliseconds(1), set_before));
  EXPECT_EQ(set_before.signalled, true) << "what is set is set, however late";
}

Task<> wait_again_and_again(Event& event, int& rounds) {
  while (rounds < 3) {
    co_await event.wait();
    ++rounds;
  }
}

TEST(Event, wakes_a_waiter_that_comes_back_once_a_signal) {
  SimScheduler sim;
  Event event;
  int rounds = 0;
  spawn(wait_again_and_again(event, rounds));
  for (int signals = 1; signals <= 3; ++signals) {
    event.wake_all();
    sim.settle();
    EXPECT_EQ(rounds, signals);
  }
}

Task<> close_when_idle(Gate& gate, bool& closed) {
  gate.close();
  while (!gate.idle()) co_await gate.wait_for_change();
  closed = true;
}

TEST(Gate, tells_when_the_last_holder_has_gone) {
  SimScheduler sim;
  Gate gate;
  bool closed = false;
  {
    const Gate::Holder first = gate.enter();
    std::optional<Gate::Holder> second = gate.enter();
    EXPECT_EQ(gate.count(), 2u);
    spawn(close_when_idle(gate, closed));
    EXPECT_TRUE(gate.closed());
    std::optional<Gate::Holder> moved = std::move(*second);
    second.reset();
    sim.settle();
    EXPECT_EQ(gate.count(), 2u) << "a holder that was moved from counts no more";
    moved.reset();
    sim.settle();
    EXPECT_FALSE(closed);
  }
  sim.settle();
  EXPECT_TRUE(closed);
  EXPECT_TRUE(gate.idle());
}

TEST(Gate, is_idle_when_nobody_ever_came) {
  SimScheduler sim;
  Gate gate;
  bool closed = false;
  spawn(close_when_idle(gate, closed));
  EXPECT_TRUE(closed);
}

}  // namespace
}  // namespace clonedev
