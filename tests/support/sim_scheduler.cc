#include "support/sim_scheduler.h"

#include <cstdio>
#include <cstdlib>

namespace clonedev {

SimScheduler::SimScheduler(std::uint64_t seed) : seed_(seed), random_(seed) {}

std::size_t SimScheduler::choose(std::size_t count) {
  return seed_ == 0 ? 0 : static_cast<std::size_t>(random_() % count);
}

bool SimScheduler::step() {
  if (has_ready()) {
    run_ready(1);
    return true;
  }
  const TimePoint next = next_timer();
  if (next == TimePoint::max()) return false;
  now_ = std::max(now_, next);
  fire_due_timers();
  return true;
}

void SimScheduler::step_or_abort(TimePoint limit) {
  const bool stuck = !step();
  if (!stuck && now_ <= limit) return;
  std::fprintf(stderr, "SimScheduler (seed %llu): %s\n", static_cast<unsigned long long>(seed_),
               stuck ? "deadlock: nothing is ready, no timer is armed, and the task is not done"
                     : "the task is not done after an hour of virtual time");
  std::abort();
}

void SimScheduler::settle() {
  while (has_ready()) run_ready(1);
}

void SimScheduler::run_for(Duration duration) {
  const TimePoint end = now_ + duration;
  settle();
  while (next_timer() <= end) {
    now_ = std::max(now_, next_timer());
    fire_due_timers();
    settle();
  }
  now_ = end;
}

}  // namespace clonedev
