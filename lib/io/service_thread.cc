#include "clonedev/service_thread.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace clonedev {
namespace {

// Blocks every signal for its extent; a thread started meanwhile inherits that.
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

}  // namespace

std::thread start_service_thread(const std::string& name, std::function<void()> body) {
  const SignalGuard no_signals;
  return std::thread([short_name = name.substr(0, 15), body = std::move(body)] {
    pthread_setname_np(pthread_self(), short_name.c_str());
    body();
  });
}

}  // namespace clonedev
