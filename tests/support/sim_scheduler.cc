#include "support/sim_scheduler.h"

#include <cstdio>
#include <cstdlib>

namespace clonedev {

SimScheduler::SimScheduler(std::uint64_t seed) : seed_(seed), random_(seed) {}

std::size_t SimScheduler::choose(std::size_t count) {
  if (chooser_) return chooser_(count);
  return seed_ == 0 ? 0 : static_cast<std::size_t>(random_() % count);
}

bool SimScheduler::step() {
  if (has_ready()) {
    run_ready(1);
  } else {
    const TimePoint next = next_timer();
    if (next == TimePoint::max()) return false;
    now_ = std::max(now_, next);
    fire_due_timers();
  }
  if (observer_) observer_();
  return true;
}

void SimScheduler::step_or_abort(TimePoint limit) {
  const bool stuck = !step();
  if (!stuck && now_ <= limit) return;
  std::fprintf(stderr, "SimScheduler (seed %llu): %s %s\n", static_cast<unsigned long long>(seed_),
               stuck ? "deadlock: nothing is ready, no timer is armed, and the task is not done"
                     : "the task is not done after an hour of virtual time",
               note_.c_str());
  std::abort();
}

void SimScheduler::settle() {
  while (has_ready()) step();
}

void SimScheduler::run_for(Duration duration) {
  const TimePoint end = now_ + duration;
  settle();
  while (next_timer() <= end) {
    step();
    settle();
  }
  now_ = end;
}

}  // namespace clonedev
