#include "support/no_io_uring.h"

#include <gtest/gtest.h>
#include <seccomp.h>

#include <cstdint>
#include <thread>

namespace clonedev {
namespace {

bool deny_io_uring(int code) {
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  const auto action = SCMP_ACT_ERRNO(static_cast<std::uint16_t>(code));
  const bool denied = filter &&
                      seccomp_rule_add(filter, action, SCMP_SYS(io_uring_setup), 0) == 0 &&
                      seccomp_load(filter) == 0;
  seccomp_release(filter);
  return denied;
}

}  // namespace

// A filter stays for good, with the thread that loaded it and those it starts: hence one of its
// own.
void run_without_io_uring(int code, const std::function<void()>& work) {
  std::thread([&] {
    if (!deny_io_uring(code)) {
      ADD_FAILURE() << "the seccomp filter cannot be loaded";
    } else {
      work();
    }
  }).join();
}

}  // namespace clonedev
