// The commands under way, in two generations: so that somebody can wait for all that began before
// a moment, while others go on beginning.
//
// Thread: one scheduler.
#pragma once

#include <array>
#include <cassert>

#include "engine/use_meter.h"
#include "io/event.h"
#include "io/task.h"

namespace clonedev {

class Commands {
 public:
  // While it lives.
  class [[nodiscard]] Command {
   public:
    explicit Command(Commands& commands)
        : commands_(commands), holder_(commands.gates_[commands.young_].enter()) {
      if (commands_.count() == 1) commands_.use_.begin(Scheduler::current().now());
    }
    Command(const Command&) = delete;
    Command& operator=(const Command&) = delete;
    ~Command() {
      if (commands_.count() == 1) commands_.use_.end(Scheduler::current().now());
    }

   private:
    Commands& commands_;
    const Gate::Holder holder_;
  };

  Command enter() { return Command(*this); }
  std::size_t count() const { return gates_[0].count() + gates_[1].count(); }

  // From this share of the time on they are a load, to which background work gives way.
  static constexpr double kLoad = 0.25;
  // The share of the time that they take (use_meter.h).
  double use() { return use_.share(Scheduler::current().now()); }

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
  std::array<Gate, 2> gates_;
  std::size_t young_ = 0;
  UseMeter use_;
};

}  // namespace clonedev
