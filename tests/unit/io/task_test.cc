#include "io/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "clonedev/error.h"
#include "io/event.h"
#include "support/sim_scheduler.h"

namespace clonedev {
namespace {

constexpr int kMany = 1'000'000;

// Suspends once and is ready again at once.
struct Yield {
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) { Scheduler::current().schedule(handle); }
  void await_resume() const {}
};

// Counts how many of it live in coroutine frames.
struct Counted {
  explicit Counted(int& living) : living_(&living) { ++*living_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --*living_; }

 private:
  int* living_;
};

Task<> note_around_wait(std::vector<std::string>& log, Event& event) {
  log.push_back("before");
  co_await event.wait();
  log.push_back("after");
}

TEST(Task, runs_at_once_until_its_first_suspension) {
  SimScheduler sim;
  std::vector<std::string> log;
  Event event;
  const Task<> task = note_around_wait(log, event);
  EXPECT_EQ(log, std::vector<std::string>{"before"});
  EXPECT_FALSE(task.done());
  event.set();
  EXPECT_FALSE(task.done()) << "resumed from inside set()";
  sim.settle();
  EXPECT_TRUE(task.done());
  EXPECT_EQ(log.size(), 2u);
}

Task<int> finished(int value) { co_return value; }

Task<int> after_yield(int value) {
  co_await Yield();
  co_return value;
}

Task<long> sum_of_finished() {
  long sum = 0;
  for (int i = 0; i < kMany; ++i) {
    const int value = co_await finished(1);
    sum += value;
  }
  co_return sum;
}

Task<long> sum_of_yielding() {
  long sum = 0;
  for (int i = 0; i < kMany; ++i) {
    const int value = co_await after_yield(1);
    sum += value;
  }
  co_return sum;
}

TEST(Task, awaits_a_million_finished_tasks_without_growing_the_stack) {
  SimScheduler sim;
  EXPECT_EQ(sim.run(sum_of_finished()), kMany);
}

TEST(Task, awaits_a_million_suspending_tasks_without_growing_the_stack) {
  SimScheduler sim;
  EXPECT_EQ(sim.run(sum_of_yielding()), kMany);
}

// Each waits for the one before, so that ending the first ends all of them, one after the other.
Task<int> next_in_chain(Task<int>& before) {
  const int value = co_await before;
  co_return value + 1;
}

TEST(Task, ends_a_chain_of_a_hundred_thousand_waiters_without_growing_the_stack) {
  constexpr int kLength = 100'000;
  SimScheduler sim;
  std::vector<Task<int>> chain;
  chain.reserve(kLength + 1);
  chain.push_back(after_yield(0));
  for (int i = 0; i < kLength; ++i) chain.push_back(next_in_chain(chain.back()));
  sim.settle();
  EXPECT_TRUE(chain.back().done());
  EXPECT_EQ(chain.back().take(), kLength);
}

Task<> end_with_log(std::vector<std::string>& log, Event& event) {
  co_await event.wait();
  log.push_back("callee ends");
}

Task<> await_with_log(std::vector<std::string>& log, Event& event) {
  co_await end_with_log(log, event);
  log.push_back("caller goes on");
}

Task<> log_when_next(std::vector<std::string>& log, Event& event) {
  co_await event.wait();
  log.push_back("another one that was ready");
}

TEST(Task, resumes_its_awaiter_through_the_ready_queue_in_order) {
  SimScheduler sim;
  std::vector<std::string> log;
  Event event;
  const Task<> caller = await_with_log(log, event);
  const Task<> other = log_when_next(log, event);
  event.set();
  sim.settle();
  EXPECT_EQ(log, (std::vector<std::string>{"callee ends", "another one that was ready",
                                           "caller goes on"}));
}

Task<std::unique_ptr<int>> make_unique_int(int value) {
  co_await Yield();
  co_return std::make_unique<int>(value);
}

Task<Result<std::unique_ptr<int>>> pass_on() {
  auto value = co_await make_unique_int(42);
  co_return value;
}

Task<Result<int>> fails() {
  co_await Yield();
  co_return fail(Errc::busy, "later");
}

TEST(Task, returns_what_can_only_be_moved_and_errors_too) {
  SimScheduler sim;
  EXPECT_EQ(*sim.run(make_unique_int(7)), 7);
  const auto passed = sim.run(pass_on());
  EXPECT_TRUE(passed.has_value());
  EXPECT_EQ(**passed, 42);
  const auto failed = sim.run(fails());
  EXPECT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, Errc::busy);
}

Task<> hold_counted(int& living, int yields) {
  const Counted counted(living);
  for (int i = 0; i < yields; ++i) co_await Yield();
}

TEST(Spawn, frees_every_frame_at_its_end_finished_or_not) {
  SimScheduler sim;
  int living = 0;
  spawn(hold_counted(living, 0));
  EXPECT_EQ(living, 0);
  for (int i = 0; i < 10'000; ++i) spawn(hold_counted(living, i % 7));
  EXPECT_GT(living, 0);
  sim.settle();
  EXPECT_EQ(living, 0);
}

Task<> await_counted(int& living) {
  co_await hold_counted(living, 3);
  EXPECT_EQ(living, 0) << "the locals of a task live until it ends and no longer";
}

TEST(Task, destroys_its_locals_when_it_ends) {
  SimScheduler sim;
  int living = 0;
  sim.run(await_counted(living));
}

TEST(Task, moves) {
  SimScheduler sim;
  Task<int> first = after_yield(1);
  Task<int> second = std::move(first);
  Task<int> third;
  third = std::move(second);
  EXPECT_EQ(sim.run(std::move(third)), 1);
}

Task<> throws() {
  co_await Yield();
  throw std::runtime_error("nobody may see this");
}

TEST(TaskDeathTest, ends_the_process_when_an_exception_escapes) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        SimScheduler sim;
        sim.run(throws());
      },
      "");
}

}  // namespace
}  // namespace clonedev
