// Tasks are eager, so what a test runs has to begin on the reactor too, not only to end there.
#pragma once

#include <cstdlib>
#include <memory>
#include <type_traits>
#include <utility>

#include "io/reactor.h"

namespace clonedev {

struct NextTurn {
  Scheduler& scheduler;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) const { scheduler.schedule(handle); }
  void await_resume() const {}
};

template <class Start>
auto begin_there(Scheduler& scheduler, Start& start) -> std::invoke_result_t<Start&> {
  const NextTurn turn{scheduler};
  co_await turn;
  auto task = start();
  co_return co_await task;
}

template <class Start>
Task<> begin_quietly(Scheduler& scheduler, Start& start) {
  const NextTurn turn{scheduler};
  co_await turn;
  auto task = start();
  co_await task;
}

// `start` is a plain function that makes a task; its result comes back.
template <class Start>
auto run_on(Reactor& reactor, Start start) {
  if constexpr (std::is_same_v<std::invoke_result_t<Start&>, Task<>>) {
    reactor.run(begin_quietly(reactor, start));
  } else {
    return reactor.run(begin_there(reactor, start));
  }
}

inline std::unique_ptr<Reactor> new_reactor() {
  auto reactor = Reactor::create();
  if (!reactor) std::abort();
  return std::move(*reactor);
}

}  // namespace clonedev
