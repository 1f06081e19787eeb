#include "io/scheduler.h"

#include <cassert>
#include <utility>

namespace clonedev {
namespace {
thread_local Scheduler* running = nullptr;
}

Scheduler::Timer::~Timer() { assert(!armed_at_ && "timer destroyed while armed"); }

Scheduler::~Scheduler() { assert(timers_.empty() && "scheduler destroyed with timers armed"); }

Scheduler& Scheduler::current() {
  assert(running && "not on a scheduler's thread");
  return *running;
}

Scheduler::Running::Running(Scheduler* scheduler) : outer_(std::exchange(running, scheduler)) {}
Scheduler::Running::~Running() { running = outer_; }

void Scheduler::arm(Timer& timer, TimePoint due) {
  assert(!timer.armed_at_);
  timer.armed_at_ = this;
  timer.where_ = timers_.emplace(due, &timer);
}

void Scheduler::disarm(Timer& timer) {
  if (!timer.armed_at_) return;
  timers_.erase(timer.where_);
  timer.armed_at_ = nullptr;
}

std::size_t Scheduler::choose(std::size_t) { return 0; }

void Scheduler::run_ready(std::size_t budget) {
  for (; budget > 0 && !ready_.empty(); --budget) {
    const auto it = ready_.begin() + static_cast<std::ptrdiff_t>(choose(ready_.size()));
    const auto handle = *it;
    ready_.erase(it);
    handle.resume();
  }
}

void Scheduler::fire_due_timers() {
  const TimePoint time = now();
  while (!timers_.empty() && timers_.begin()->first <= time) {
    Timer& timer = *timers_.begin()->second;
    disarm(timer);
    timer.fire_(timer);
  }
}

Scheduler::TimePoint Scheduler::next_timer() const {
  return timers_.empty() ? TimePoint::max() : timers_.begin()->first;
}

}  // namespace clonedev
