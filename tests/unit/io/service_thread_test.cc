#include "clonedev/service_thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace clonedev {
namespace {

// The kernel's flags of a thread of this process (PF_..., field 9 of proc(5)'s stat).
unsigned long flags_of_this_thread() {
  std::ifstream file("/proc/self/task/" + std::to_string(::syscall(SYS_gettid)) + "/stat");
  std::string text;
  std::getline(file, text);
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int field = 3; field < 9; ++field) fields >> skipped;
  unsigned long flags = 0;
  fields >> flags;
  return flags;
}

TEST(ServiceThread, takes_no_signal_and_has_its_name) {
  sigset_t mask;
  char name[16] = "";
  start_service_thread("clone-a-long-name", [&] {
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    pthread_getname_np(pthread_self(), name, sizeof name);
  }).join();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGALRM}) {
    EXPECT_EQ(sigismember(&mask, signal), 1) << signal;
  }
  EXPECT_STREQ(name, "clone-a-long-na");
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  EXPECT_EQ(sigismember(&mask, SIGTERM), 0) << "the caller's own mask is as before";
}

// On a loopback LUN each of our threads may be what the write-back of dirty pages waits for.
TEST(ServiceThread, is_an_io_flusher_if_its_maker_is) {
  unsigned long made_before = 0;
  unsigned long maker = 0;
  unsigned long made = 0;
  bool possible = false;
  std::thread([&] {
    start_service_thread("clone", [&] { made_before = flags_of_this_thread(); }).join();
    possible = ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
    maker = flags_of_this_thread();
    start_service_thread("clone", [&] { made = flags_of_this_thread(); }).join();
  }).join();
  if (!possible) GTEST_SKIP() << "needs CAP_SYS_RESOURCE";
  const unsigned long bits = maker & ~made_before;
  EXPECT_NE(bits, 0UL) << "what the call sets";
  EXPECT_EQ(made & bits, bits);
}

}  // namespace
}  // namespace clonedev
