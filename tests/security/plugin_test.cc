// What the plugin must not do inside a daemon that is root: see docs/security.md.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "support/plugin_site.h"

namespace clonedev::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSize = 4 << 20;

PluginSite* site = nullptr;
std::set<std::string> descriptors_before;

std::set<std::string> descriptors() {
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    found.insert(entry.path().filename());
  }
  return found;
}

// What follows "FIELD:" and blanks in a file of /proc.
std::string field_of(const fs::path& path, const std::string& field) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":"))
      return line.substr(line.find_first_not_of(" \t", field.size() + 1));
  }
  return {};
}

std::unique_ptr<HostLun> open_lun(const std::string& name) {
  const std::string folder = site->folder();
  std::ofstream(folder + "/origin") << std::string(kSize, 'o');
  HostLun::Setup setup;
  setup.name = name;
  setup.config =
      "clone/origin=" + folder + "/origin;dest=" + folder + "/" + name +
      ".img;hydration=off";  // Not complete, and its origin closed, in the middle of a test.
  setup.size_bytes = kSize;
  setup.sys_dir = site->sys_dir();
  auto lun = std::make_unique<HostLun>(*site->handler(), setup);
  EXPECT_EQ(lun->open(), 0);
  EXPECT_EQ(lun->write(0, Bytes(4096, 1)).status, TCMU_STS_OK);
  return lun;
}

// ---- CheckConfig: any local user makes the daemon call it, by D-Bus, with any text ----

std::atomic<int> forbidden_call = 0;

void note_call(int, siginfo_t* info, void*) { forbidden_call = info->si_syscall; }

// In the calling thread every system call but those of memory, locks and leaving traps.
bool allow_thinking_only() {
  const scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
  bool good = filter != nullptr;
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect),
                         SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(futex), SCMP_SYS(exit),
                         SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sched_yield),
                         SCMP_SYS(sigaltstack), SCMP_SYS(gettid), SCMP_SYS(clock_gettime)}) {
    good = good && seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0) == 0;
  }
  good = good && seccomp_load(filter) == 0;
  seccomp_release(filter);
  return good;
}

// The number of a system call that `work` made and that is more than thinking, or 0.
int call_made_by(const std::function<void()>& work) {
  forbidden_call = 0;
  struct sigaction trap {};
  struct sigaction before {};
  trap.sa_sigaction = note_call;
  trap.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSYS, &trap, &before);
  bool loaded = false;
  std::thread([&] {
    loaded = allow_thinking_only();
    if (loaded) work();
  }).join();
  ::sigaction(SIGSYS, &before, nullptr);
  EXPECT_TRUE(loaded) << "the seccomp filter cannot be loaded";
  return forbidden_call;
}

TEST(CheckConfig, makes_no_system_call) {
  const std::string fifo = site->folder() + "/fifo";  // Whoever opens it waits for ever.
  EXPECT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(::mkfifo((site->folder() + "/conf/vm1.conf").c_str(), 0600), 0);
  const std::vector<std::string> configs = {
      "clone/conf=vm1",
      "clone/conf=../../../etc/shadow",
      "clone/conf=nothing",
      "clone/origin=" + fifo + ";dest=" + fifo,
      "clone/origin=/etc/shadow;dest=/etc/shadow;meta=/etc/shadow;init=overwrite",
      "clone/origin=nbd%3A//192.0.2.1;dest=/d",
      "clone/origin=nbds%3A//192.0.2.1/?tls-certificates=" + fifo + ";dest=/d",
      "clone/origin=nbd+unix%3A///?socket=" + fifo + ";dest=/d",
      "clone/" + std::string(10'000, ';'),
      "clone/" + std::string(100'000, 'x'),
      "clone/origin=%00;dest=%",
      "",
      "clone",
      "other/thing"};
  const int call = call_made_by([&] {
    for (const std::string& config : configs) {
      char* reason = nullptr;
      site->handler()->check_config(config.c_str(), &reason);
      std::free(reason);
    }
  });
  EXPECT_EQ(call, 0) << "the number of the system call";
  EXPECT_EQ(call_made_by([] { static_cast<void>(::access("/etc/shadow", R_OK)); }), SYS_access)
      << "the test itself finds one";
}

// ---- what our threads and descriptors are ----

bool is_ours(const std::string& name) {
  return name == "clone-io" || name == "clone-complete" || name == "clone-control" ||
         name.starts_with("clone-vm");
}

// How many there are of each name.
std::map<std::string, int> judge_our_threads() {
  std::map<std::string, int> seen;
  for (const auto& task : fs::directory_iterator("/proc/self/task")) {
    const fs::path status = task.path() / "status";
    const std::string name = field_of(status, "Name");
    if (!is_ours(name)) continue;
    ++seen[name];
    const bool one = name == "clone-vm1" && ::geteuid() == 0;
    EXPECT_EQ(field_of(status, "CapPrm"), one ? "0000000000000002" : "0000000000000000") << name;
    EXPECT_EQ(field_of(status, "NoNewPrivs"), "1") << name;
  }
  return seen;
}

TEST(Threads, have_given_up_every_capability_but_one) {
  const std::string own = field_of("/proc/self/status", "CapEff");
  const auto lun = open_lun("vm1");
  // A thread has its name only when it has given up the rest; on a busy machine that takes a while.
  std::map<std::string, int> seen;
  for (int i = 0; i < 1000 && (seen["clone-complete"] < 2 || seen["clone-control"] < 8); ++i) {
    ::usleep(10'000);
    seen = judge_our_threads();
  }
  EXPECT_EQ(seen["clone-vm1"], 1);
  EXPECT_EQ(seen["clone-complete"], 2);
  EXPECT_EQ(seen["clone-control"], 8);
  EXPECT_EQ(field_of("/proc/self/status", "CapEff"), own) << "the daemon's threads keep theirs";
  EXPECT_EQ(field_of("/proc/self/status", "NoNewPrivs"), "0");
}

TEST(Descriptors, are_closed_on_exec) {
  const auto lun = open_lun("vm2");
  unsigned ours = 0;
  for (const std::string& fd : descriptors()) {
    if (descriptors_before.count(fd) != 0) continue;
    const std::string flags = field_of("/proc/self/fdinfo/" + fd, "flags");
    if (flags.empty()) continue;  // That of the listing itself.
    ++ours;
    std::error_code ignored;
    EXPECT_NE(std::stoul(flags, nullptr, 8) & O_CLOEXEC, 0U)
        << fs::read_symlink("/proc/self/fd/" + fd, ignored);
  }
  EXPECT_GT(ours, 5U) << "sockets, eventfds, a ring, origin, destination, metadata, live map";
}

TEST(Files, of_the_plugin_are_for_root_alone) {
  const mode_t before = ::umask(0);
  const auto lun = open_lun("vm3");
  ::umask(before);
  const std::string folder = site->folder();
  for (const char* name : {"/vm3.img", "/state/vm3.meta", "/state/known", "/run/live"}) {
    struct stat info {};
    EXPECT_EQ(::stat((folder + name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 077, 0U) << name;
  }
}

// ---- the control socket, as another user ----

void run_as_nobody(const std::function<void()>& work) {
  std::thread([&] {
    constexpr long kNobody = 65534;
    ASSERT_EQ(::syscall(SYS_setresuid, kNobody, kNobody, kNobody), 0);  // This thread alone.
    work();
    ::prctl(PR_SET_DUMPABLE, 1);  // Which the change took from the process, and sanitizers need.
  }).join();
}

TEST(ControlSocket, lets_a_user_look_and_change_nothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another";
  const auto lun = open_lun("vm4");
  ::chmod(site->folder().c_str(), 0755);
  std::map<std::string, std::string> replies;
  const std::vector<std::string> open_to_all = {"list", "status vm4", "verify vm4"};
  const std::vector<std::string> for_root = {"message vm4 disable_hydration",
                                             "message vm4 clear_needs_check",
                                             "message",
                                             "delete vm4",
                                             "verify vm4 start",
                                             "copy",
                                             "%6dessage vm4 enable_hydration"};
  run_as_nobody([&] {
    for (const auto& line : open_to_all) replies[line] = site->ask_control(line + "\n");
    for (const auto& line : for_root) replies[line] = site->ask_control(line + "\n");
  });
  for (const auto& line : open_to_all) {
    EXPECT_TRUE(replies[line].starts_with("{\"ok\":true")) << line << ": " << replies[line];
  }
  for (const auto& line : for_root) {
    EXPECT_NE(replies[line].find("only root"), std::string::npos) << line << ": " << replies[line];
  }
  EXPECT_TRUE(site->ask_control("message vm4 disable_hydration\n").starts_with("{\"ok\":true"));
}

}  // namespace
}  // namespace clonedev::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  using namespace clonedev::testing;
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  descriptors_before = descriptors();
  PluginSite here(HANDLER_CLONE_SO);
  site = &here;
  return here.handler() != nullptr ? RUN_ALL_TESTS() : 1;
}
