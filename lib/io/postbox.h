// Where other threads leave work for a reactor that may be gone by then: what comes after close()
// is dropped.
//
// Thread: any.
#pragma once

#include <functional>
#include <mutex>
#include <utility>

#include "io/reactor.h"

namespace clonedev {

class Postbox {
 public:
  explicit Postbox(Reactor& reactor) : reactor_(&reactor) {}
  Postbox(const Postbox&) = delete;
  Postbox& operator=(const Postbox&) = delete;

  void post(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    if (reactor_) reactor_->post(std::move(work));
  }
  // Before the reactor is destroyed.
  void close() {
    const std::lock_guard lock(mutex_);
    reactor_ = nullptr;
  }

 private:
  std::mutex mutex_;
  Reactor* reactor_;  // protected by mutex_
};

}  // namespace clonedev
