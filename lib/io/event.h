// Event: coroutines wait until it is set, with or without a deadline.
// Gate: counts what is under way and lets one coroutine wait until all of it has ended.
//
// Thread: one scheduler.
#pragma once

#include <cassert>
#include <coroutine>
#include <list>

#include "io/scheduler.h"

namespace clonedev {

class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { assert(waiters_.empty() && "event destroyed with waiters"); }

  bool is_set() const { return set_; }
  void reset() { set_ = false; }
  // Wakes every waiter, and lets later ones pass until reset().
  void set() {
    set_ = true;
    wake_all();
  }
  // Wakes every waiter of this moment only.
  void wake_all();

  // co_await event.wait(): true; co_await event.wait_until(t): false when t came first.
  class Wait;
  Wait wait();
  Wait wait_until(Scheduler::TimePoint deadline);

 private:
  std::list<Wait*> waiters_;
  bool set_ = false;
};

class Event::Wait : Scheduler::Timer {
 public:
  Wait(Event& event, Scheduler::TimePoint deadline)
      : Timer(&expire), event_(event), deadline_(deadline) {}
  bool await_ready() const { return event_.set_; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    event_.waiters_.push_back(this);
    scheduler_ = &Scheduler::current();
    if (deadline_ != Scheduler::TimePoint::max()) scheduler_->arm(*this, deadline_);
  }
  bool await_resume() const { return signalled_; }

 private:
  friend class Event;
  static void expire(Timer& timer) { static_cast<Wait&>(timer).finish(false); }
  void finish(bool signalled) {
    signalled_ = signalled;
    scheduler_->disarm(*this);
    event_.waiters_.remove(this);
    scheduler_->schedule(handle_);
  }

  Event& event_;
  Scheduler::TimePoint deadline_;
  Scheduler* scheduler_ = nullptr;
  std::coroutine_handle<> handle_;
  bool signalled_ = true;
};

inline void Event::wake_all() {
  while (!waiters_.empty()) waiters_.front()->finish(true);
}

inline Event::Wait Event::wait() { return Wait(*this, Scheduler::TimePoint::max()); }
inline Event::Wait Event::wait_until(Scheduler::TimePoint deadline) {
  return Wait(*this, deadline);
}

class Gate {
 public:
  class Holder {
   public:
    explicit Holder(Gate& gate) : gate_(&gate) { ++gate.count_; }
    Holder(Holder&& other) noexcept : gate_(other.gate_) { other.gate_ = nullptr; }
    Holder& operator=(Holder&&) = delete;
    ~Holder() {
      if (gate_ && --gate_->count_ == 0) gate_->empty_.wake_all();
    }

   private:
    Gate* gate_;
  };

  ~Gate() { assert(count_ == 0 && "gate destroyed with something under way"); }

  Holder enter() { return Holder(*this); }
  std::size_t count() const { return count_; }
  bool closed() const { return closed_; }
  // New work should look at closed() first; the gate itself only counts.
  void close() { closed_ = true; }
  bool idle() const { return count_ == 0; }
  // while (!gate.idle()) co_await gate.wait_for_change();
  Event::Wait wait_for_change() { return empty_.wait(); }

 private:
  std::size_t count_ = 0;
  bool closed_ = false;
  Event empty_;
};

}  // namespace clonedev
