// Blocks every signal for its extent. Threads started meanwhile inherit that: INT, TERM and HUP
// belong to the daemon's main loop.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace clonedev {

class SignalGuard {
 public:
  SignalGuard() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalGuard() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  sigset_t before_;
};

}  // namespace clonedev
