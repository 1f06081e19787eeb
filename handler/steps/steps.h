// A command that may take more than one request to the device: which comes next.
#pragma once

#include <chrono>
#include <optional>
#include <utility>

#include "clonedev/clone_device.h"

namespace clonedev {

class Steps {
 public:
  using Clock = std::chrono::steady_clock;

  virtual ~Steps() = default;

  // None begins later: the kernel may have given the command up by the time such a one takes its
  // place among the others, and its initiator may have written there anew.
  void begin_none_after(Clock::time_point deadline) { deadline_ = deadline; }

  // Starts the next request, to be answered through `completion`, and returns nothing; or, when
  // there is none to come, how the command ended. `last` is how the request before it ended; good
  // at first. Starts as the last thing it does: the request may be answered, and *this be on
  // another thread or gone, before this returns. Does not wait.
  // Thread: the LUN's command thread at first, then a completer thread.
  std::optional<Result<>> advance(CloneDevice& clone, const Result<>& last, Completion completion) {
    if (auto ended = take(last)) return ended;
    if (Clock::now() > deadline_) return fail(Errc::busy, "it took too long");
    start(clone, completion);
    return std::nullopt;
  }

  // Has one of several requests changed what the LUN holds, so that the command can no longer say
  // that nothing happened?
  bool had_effect() const { return had_effect_; }

 protected:
  // What the outcome of the request before means: the end of the command, or nothing when start()
  // has another one.
  virtual std::optional<Result<>> take(const Result<>& last) = 0;
  virtual void start(CloneDevice& clone, Completion completion) = 0;

  void note_effect() { had_effect_ = true; }

 private:
  Clock::time_point deadline_ = Clock::time_point::max();
  bool had_effect_ = false;
};

// A single request.
class OneStep : public Steps {
 protected:
  std::optional<Result<>> take(const Result<>& last) final {
    if (std::exchange(started_, true)) return last;
    return std::nullopt;
  }

 private:
  bool started_ = false;
};

}  // namespace clonedev
