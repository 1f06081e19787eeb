#include "clonedev/service_thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>

#include "core/log.h"

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

using Capabilities = std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)>;

bool may(const Capabilities& capabilities, cap_value_t which) {
  cap_flag_value_t value = CAP_CLEAR;
  return cap_get_flag(capabilities.get(), which, CAP_PERMITTED, &value) == 0 && value == CAP_SET;
}

// Of the calling thread alone: cap_set_proc goes further only where libpsx is linked.
bool keep_only(Rights rights) {
  const Capabilities before(cap_get_proc(), cap_free);
  const Capabilities kept(cap_init(), cap_free);
  if (!before || !kept) return false;
  const cap_value_t files = CAP_DAC_OVERRIDE;
  if (rights == Rights::files && may(before, files)) {
    cap_set_flag(kept.get(), CAP_PERMITTED, 1, &files, CAP_SET);
    cap_set_flag(kept.get(), CAP_EFFECTIVE, 1, &files, CAP_SET);
  }
  return cap_set_proc(kept.get()) == 0;
}

void give_up_rights(Rights rights) {
  if (keep_only(rights) && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) return;
  log_line(LOG_WARNING, "a thread keeps rights that it does not need: {}", std::strerror(errno));
}

}  // namespace

std::thread start_service_thread(const std::string& name, Rights rights,
                                 std::function<void()> body) {
  const SignalGuard no_signals;
  return std::thread([short_name = name.substr(0, 15), rights, body = std::move(body)] {
    give_up_rights(rights);
    pthread_setname_np(pthread_self(), short_name.c_str());
    body();
  });
}

}  // namespace clonedev
