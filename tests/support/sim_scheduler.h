// A scheduler with virtual time and a seeded order, so that a test runs the same way each time.
//
// It is current() for its whole life, because tasks are eager: `sim.run(device.read(...))` starts
// the read before run() is entered. Seed 0 is first come, first served; any other seed permutes
// what is ready. Time stands still while anything is ready and then jumps to the next timer.
//
// Aborts with a message when a task can never end (nothing ready, no timer), or has not ended
// after an hour of virtual time.
#pragma once

#include <functional>
#include <random>
#include <string>
#include <utility>

#include "io/scheduler.h"
#include "io/task.h"

namespace clonedev {

class SimScheduler final : public Scheduler {
 public:
  explicit SimScheduler(std::uint64_t seed = 0);

  TimePoint now() const override { return now_; }

  // Runs everything until this task is done, and gives its result.
  template <class T>
  T run(Task<T> task) {
    const TimePoint limit = now_ + kPatience;
    while (!task.done()) step_or_abort(limit);
    return task.take();
  }
  // Until the condition holds; the same patience.
  template <class Condition>
  void run_until(Condition&& holds) {
    const TimePoint limit = now_ + kPatience;
    while (!holds()) step_or_abort(limit);
  }
  // Until nothing is ready; time stands still.
  void settle();
  // Lets that much time pass and runs all that becomes ready meanwhile.
  void run_for(Duration duration);
  // Called after every step, between two coroutines.
  void set_observer(std::function<void()> observer) { observer_ = std::move(observer); }
  // Decides in the seed's place which of `count` ready coroutines is next.
  void set_chooser(std::function<std::size_t(std::size_t count)> chooser) {
    chooser_ = std::move(chooser);
  }
  // Is told when it aborts: what repeats this run.
  void set_note(std::string note) { note_ = std::move(note); }
  // One coroutine, or one jump in time. False: there is nothing to do, now or later.
  bool step();

 private:
  static constexpr std::chrono::hours kPatience{1};

  std::size_t choose(std::size_t count) override;
  void step_or_abort(TimePoint limit);

  std::uint64_t seed_;
  std::mt19937_64 random_;
  std::function<void()> observer_;
  std::string note_;
  std::function<std::size_t(std::size_t)> chooser_;
  TimePoint now_{std::chrono::hours(1)};
  Running running_{this};
};

}  // namespace clonedev
