// The commands under way, in two generations: so that somebody can wait for all that began before
// a moment, while others go on beginning.
//
// Thread: one scheduler.
#pragma once

#include <array>
#include <cassert>
#include <chrono>

#include "io/event.h"
#include "io/task.h"

namespace clonedev {

class Commands {
 public:
  Gate::Holder enter() {
    latest_ = Scheduler::current().now();
    return gates_[young_].enter();
  }
  std::size_t count() const { return gates_[0].count() + gates_[1].count(); }

  // One is under way or, of a client that sends one after the other, has just ended.
  bool in_use() const { return count() > 0 || Scheduler::current().now() < latest_ + kBetweenTwo; }

  // Returns when no command is under way.
  Task<> idle() {
    while (count() > 0) {
      for (Gate& gate : gates_) {
        while (!gate.idle()) co_await gate.wait_for_change();
      }
    }
  }
  // Returns when all that are under way now have ended. Not twice at a time.
  Task<> turn_over() {
    Gate& old = gates_[young_];
    young_ = 1 - young_;
    assert(gates_[young_].idle());
    while (!old.idle()) co_await old.wait_for_change();
  }

 private:
  static constexpr std::chrono::milliseconds kBetweenTwo{50};

  std::array<Gate, 2> gates_;
  std::size_t young_ = 0;
  Scheduler::TimePoint latest_{};
};

}  // namespace clonedev
