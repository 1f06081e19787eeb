// Tells whether a server answers what it was asked later and leaves something earlier alone. A
// server that answers slowly, or nothing at all, is no such one: the connection's own watchdog
// judges that, but what it sees of others' answers keeps it quiet about the one.
//
// Thread: one scheduler.
#pragma once

#include <algorithm>
#include <list>

#include "io/scheduler.h"

namespace clonedev {

class AnswerClock {
 public:
  using Time = Scheduler::TimePoint;
  using Asked = std::list<Time>::iterator;

  // In the order of time.
  Asked ask(Time now) { return open_.insert(open_.end(), now); }
  // `answered`: by the server, be it with an error.
  void end(Asked asked, bool answered) {
    if (answered) latest_ = std::max(latest_, *asked);
    open_.erase(asked);
  }
  // Something is open for twice the time-out, and what was asked a time-out later has its answer.
  bool leaves_one_alone(Time now, Scheduler::Duration timeout) const {
    return !open_.empty() && now > open_.front() + 2 * timeout && latest_ > open_.front() + timeout;
  }

 private:
  std::list<Time> open_;
  Time latest_ = Time::min();
};

}  // namespace clonedev
