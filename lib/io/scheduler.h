// Runs coroutines one at a time, in one thread, in the order in which they became ready.
//
// A suspended coroutine becomes ready through schedule() or when a timer fires; nothing ever
// resumes another coroutine from inside its own stack (style rule G5), so recursion cannot grow.
// Reactor adds I/O to this; tests replace the clock and the order.
//
// Thread: everything belongs to the one thread that runs the scheduler.
#pragma once

#include <chrono>
#include <coroutine>
#include <deque>
#include <map>

namespace clonedev {

class Scheduler {
 public:
  using Clock = std::chrono::steady_clock;
  using TimePoint = Clock::time_point;
  using Duration = Clock::duration;

  // Something to do at a time. Must be disarmed or have fired before it dies.
  class Timer {
   public:
    explicit Timer(void (*fire)(Timer&)) : fire_(fire) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer();

   private:
    friend class Scheduler;
    void (*fire_)(Timer&);
    Scheduler* armed_at_ = nullptr;
    std::multimap<TimePoint, Timer*>::iterator where_;
  };

  Scheduler() = default;
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;
  virtual ~Scheduler();

  // The scheduler whose coroutine is running in this thread.
  static Scheduler& current();

  void schedule(std::coroutine_handle<> handle) { ready_.push_back(handle); }
  virtual TimePoint now() const { return Clock::now(); }
  void arm(Timer& timer, TimePoint due);
  void disarm(Timer& timer);

  // co_await scheduler.turn(): goes on behind all that are ready now. For who would otherwise do
  // much at a stretch without ever waiting.
  class Turn;
  Turn turn();

  // co_await scheduler.sleep_for(...)
  class Sleep;
  Sleep sleep_for(Duration duration);
  Sleep sleep_until(TimePoint due);

 protected:
  // Marks this scheduler as current() for a scope.
  class Running {
   public:
    explicit Running(Scheduler* scheduler);
    ~Running();

   private:
    Scheduler* outer_;
  };

  bool has_ready() const { return !ready_.empty(); }
  // Which of `count` ready coroutines runs next; tests permute.
  virtual std::size_t choose(std::size_t count);
  // Resumes what is ready, at most `budget` coroutines, so that I/O gets its turn.
  void run_ready(std::size_t budget);
  void fire_due_timers();
  // The earliest timer, or TimePoint::max().
  TimePoint next_timer() const;

 private:
  std::deque<std::coroutine_handle<>> ready_;
  std::multimap<TimePoint, Timer*> timers_;
};

class Scheduler::Turn {
 public:
  explicit Turn(Scheduler& scheduler) : scheduler_(scheduler) {}
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) { scheduler_.schedule(handle); }
  void await_resume() const {}

 private:
  Scheduler& scheduler_;
};

inline Scheduler::Turn Scheduler::turn() { return Turn(*this); }

class Scheduler::Sleep {
 public:
  Sleep(Scheduler& scheduler, TimePoint due) : node_(due), scheduler_(scheduler) {}
  bool await_ready() const { return node_.due <= scheduler_.now(); }
  void await_suspend(std::coroutine_handle<> handle) {
    node_.handle = handle;
    scheduler_.arm(node_, node_.due);
  }
  void await_resume() const {}

 private:
  struct Node : Timer {
    explicit Node(TimePoint when) : Timer(&wake), due(when) {}
    static void wake(Timer& timer) {
      Scheduler::current().schedule(static_cast<Node&>(timer).handle);
    }
    TimePoint due;
    std::coroutine_handle<> handle;
  };
  Node node_;
  Scheduler& scheduler_;
};

inline Scheduler::Sleep Scheduler::sleep_until(TimePoint due) { return Sleep(*this, due); }
inline Scheduler::Sleep Scheduler::sleep_for(Duration duration) {
  return Sleep(*this, now() + duration);
}

}  // namespace clonedev
