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

// A line of proc(5)'s status of this thread.
std::string status_of_this_thread(const std::string& field) {
  std::ifstream file("/proc/self/task/" + std::to_string(::syscall(SYS_gettid)) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
  }
  return {};
}

struct ThreadRights {
  explicit ThreadRights(Rights rights) {
    start_service_thread("clone", rights, [this] {
      effective = status_of_this_thread("CapEff");
      permitted = status_of_this_thread("CapPrm");
      no_new_privileges = status_of_this_thread("NoNewPrivs");
    }).join();
  }
  std::string effective;
  std::string permitted;
  std::string no_new_privileges;
};

TEST(ServiceThread, has_no_capability_but_the_one_it_asks_for) {
  const std::string before = status_of_this_thread("CapEff");
  const ThreadRights none(Rights::none);
  EXPECT_EQ(none.effective, "0000000000000000");
  EXPECT_EQ(none.permitted, "0000000000000000");
  EXPECT_EQ(none.no_new_privileges, "1");
  const ThreadRights files(Rights::files);
  const bool root = ::geteuid() == 0;
  EXPECT_EQ(files.effective, root ? "0000000000000002" : "0000000000000000") << "CAP_DAC_OVERRIDE";
  EXPECT_EQ(files.permitted, files.effective);
  EXPECT_EQ(files.no_new_privileges, "1");
  EXPECT_EQ(status_of_this_thread("CapEff"), before) << "its maker keeps its own";
  EXPECT_EQ(status_of_this_thread("NoNewPrivs"), "0");
}

TEST(ServiceThread, takes_no_signal_and_has_its_name) {
  sigset_t mask;
  char name[16] = "";
  start_service_thread("clone-a-long-name", Rights::none, [&] {
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
  unsigned long before = 0;
  unsigned long maker = 0;
  unsigned long made = 0;
  bool possible = false;
  std::thread([&] {
    // Off first: the call also leaves a mark of its own (PF_SUPERPRIV), which is not inherited.
    possible = ::prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0) == 0;
    before = flags_of_this_thread();
    possible = possible && ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0;
    maker = flags_of_this_thread();
    start_service_thread("clone", Rights::none, [&] { made = flags_of_this_thread(); }).join();
  }).join();
  if (!possible) GTEST_SKIP() << "needs CAP_SYS_RESOURCE";
  const unsigned long bits = maker & ~before;
  EXPECT_NE(bits, 0UL) << "what the call sets";
  EXPECT_EQ(made & bits, bits);
}

}  // namespace
}  // namespace clonedev
