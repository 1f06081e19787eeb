// A scheduler with I/O: one thread, an inbox for the other threads, and a backend that does the I/O
// (io_backend.h).
//
// Thread: run() belongs to the thread that calls it; post() and stop() to any; everything else to
// the running thread. Operations in flight hold the caller's memory until they are resumed.
#pragma once

#include <poll.h>
#include <sys/uio.h>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "clonedev/error.h"
#include "io/io_backend.h"
#include "io/scheduler.h"
#include "io/task.h"

namespace clonedev {

class Reactor final : public Scheduler {
 public:
  static Result<std::unique_ptr<Reactor>> create();

  // Which backend it has, as the status says it. Thread: any.
  const char* io_name() const { return backend_->name(); }

  // Runs `work` on the reactor thread, soon. Thread: any.
  void post(std::function<void()> work);
  // Serves until stop() was called and nothing is ready.
  void run();
  void stop();
  // Runs one task to its end in the calling thread; for start-up, tools and tests.
  template <class T>
  T run(Task<T> task) {
    loop([&task] { return task.done(); });
    return task.take();
  }

  // The same for a task that is yet to be started: tasks are eager and need a scheduler.
  template <std::invocable F>
  auto run(F start) {
    const Running scope(this);
    return run(start());
  }

  // co_await gives the completion's result: >= 0 or -errno, as in io_uring_enter(2).
  class Operation;
  Operation readv(int fd, const iovec* data, unsigned count, std::uint64_t offset);
  Operation writev(int fd, const iovec* data, unsigned count, std::uint64_t offset);
  Operation fdatasync(int fd);
  Operation fallocate(int fd, int mode, std::uint64_t offset, std::uint64_t length);

  // Waits until a descriptor is ready, somebody wakes the watch, or a deadline passes.
  class Watch;

 private:
  explicit Reactor(std::unique_ptr<IoBackend> backend) : backend_(std::move(backend)) {}
  void loop(const std::function<bool()>& done);
  Duration patience() const;
  void sleep();
  void drain_inbox();

  const std::unique_ptr<IoBackend> backend_;
  std::atomic<bool> stopping_ = false;

  std::mutex inbox_mutex_;
  std::vector<std::function<void()>> inbox_;  // protected by inbox_mutex_
  bool asleep_ = false;                       // Who posts has to wake it; protected by inbox_mutex_
  std::vector<std::function<void()>> taken_;  // reactor thread only
};

class Reactor::Operation {
 public:
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    request_.waiter = handle;
    backend_.submit(request_);
  }
  int await_resume() const { return request_.result; }

 private:
  friend class Reactor;
  Operation(IoBackend& backend, const IoRequest& request) : backend_(backend), request_(request) {}

  IoBackend& backend_;
  IoRequest request_;
};

class Reactor::Watch {
 public:
  Watch(Reactor& reactor, int fd) : reactor_(reactor), fd_(fd) {}
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  // The poll(2) events that are there now, or 0 when woken or out of time.
  Task<int> wait(short events, TimePoint deadline);
  // Ends the wait under way, or the next one.
  void wake();

 private:
  class Poll;
  struct Deadline;
  static int ready_now(int fd, short events);
  Reactor& reactor_;
  int fd_;
  IoRequest* polling_ = nullptr;
  bool woken_ = false;
};

}  // namespace clonedev
