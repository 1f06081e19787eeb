// Task<T>: an eager coroutine. It runs at once until its first suspension; whoever awaits it is
// resumed through the scheduler's ready queue, never from inside the callee's stack (rules G1-G7
// of CONTRIBUTING.md, which keep clear of what GCC 12 miscompiles).
//
// Ownership: the Task owns the frame. A Task may only be destroyed when it is done; spawn() gives
// a Task<void> to itself, to be destroyed at its end.
// Errors: values. An exception that escapes a coroutine ends the process.
#pragma once

#include <cassert>
#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "io/scheduler.h"

namespace clonedev {

namespace detail {

struct PromiseBase {
  std::coroutine_handle<> continuation;
  bool detached = false;

  struct Final {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> handle) const noexcept {
      PromiseBase& promise = handle.promise();
      if (promise.continuation) {
        Scheduler::current().schedule(promise.continuation);
      } else if (promise.detached) {
        handle.destroy();
      }
    }
    void await_resume() const noexcept {}
  };

  std::suspend_never initial_suspend() const noexcept { return {}; }
  Final final_suspend() const noexcept { return {}; }
  [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
};

template <class T>
struct Promise;

}  // namespace detail

template <class T = void>
class [[nodiscard("must be awaited or spawned")]] Task {
 public:
  using promise_type = detail::Promise<T>;

  Task() = default;
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Task(Task && other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (!handle_) return;
    assert(handle_.done() && "task destroyed while it runs");
    handle_.destroy();
  }

  bool done() const { return handle_.done(); }

  bool await_ready() const { return handle_.done(); }
  void await_suspend(std::coroutine_handle<> continuation) {
    handle_.promise().continuation = continuation;
  }
  T await_resume() { return handle_.promise().take(); }

  // The result of a task that is done, for whoever does not await.
  T take() { return handle_.promise().take(); }

  std::coroutine_handle<promise_type> release() { return std::exchange(handle_, nullptr); }

 private:
  std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() {
    return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
  }
  template <class U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T take() { return std::move(*value); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() {
    return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
  }
  void return_void() const noexcept {}
  void take() const noexcept {}
};

}  // namespace detail

// Lets a task run to its end on its own.
inline void spawn(Task<void> task) {
  const auto handle = task.release();
  if (handle.done()) {
    handle.destroy();
  } else {
    handle.promise().detached = true;
  }
}

}  // namespace clonedev
