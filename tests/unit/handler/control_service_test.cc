#include "control_service.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "control_commands.h"
#include "lun.h"
#include "support/memory_clone.h"

namespace clonedev {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

UniqueFd connect_to(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return UniqueFd();
  }
  return fd;
}

std::string read_all(int fd) {
  std::string text;
  char buffer[512];
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
}

std::string ask(const std::string& path, const std::string& line) {
  const UniqueFd fd = connect_to(path);
  if (!fd) return "no connection";
  EXPECT_EQ(::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(line.size()));
  return read_all(fd.get());
}

class ControlServiceTest : public ::testing::Test {
 protected:
  ControlServiceTest() {
    folder_ = ::testing::TempDir() + "controlXXXXXX";
    if (::mkdtemp(folder_.data()) == nullptr) std::abort();
    path_ = folder_ + "/run/control.sock";
  }
  ~ControlServiceTest() override { std::filesystem::remove_all(folder_); }

  static std::string echo(std::string_view line, bool privileged) {
    return std::string(line) + (privileged ? " by root\n" : " by a user\n");
  }

  std::string folder_;
  std::string path_;
};

TEST_F(ControlServiceTest, answers_one_line_and_knows_who_asks) {
  ControlService service(path_, echo);
  ASSERT_TRUE(service.start().has_value());
  EXPECT_EQ(ask(path_, "hello there\n"),
            ::geteuid() == 0 ? "hello there by root\n" : "hello there by a user\n");
}

TEST_F(ControlServiceTest, everybody_may_connect) {
  ControlService service(path_, echo);
  ASSERT_TRUE(service.start().has_value());
  struct stat socket {};
  struct stat folder {};
  ASSERT_EQ(::stat(path_.c_str(), &socket), 0);
  ASSERT_EQ(::stat((folder_ + "/run").c_str(), &folder), 0);
  EXPECT_EQ(socket.st_mode & 0777, 0666U);
  EXPECT_EQ(folder.st_mode & 0777, 0755U);
}

TEST_F(ControlServiceTest, slow_clients_do_not_hold_up_another) {
  ControlService service(path_, echo);
  ASSERT_TRUE(service.start().has_value());
  std::vector<UniqueFd> slow;
  for (int i = 0; i < 5; ++i) slow.push_back(connect_to(path_));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_NE(ask(path_, "x\n"), "");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
}

// The work as another user; credentials are a thread's own below glibc.
void run_as_nobody(const std::function<void()>& work) {
  std::thread([&] {
    constexpr long kNobody = 65534;
    ASSERT_EQ(::syscall(SYS_setresuid, kNobody, kNobody, kNobody), 0);
    work();
    ::prctl(PR_SET_DUMPABLE, 1);  // Which the change took from the process, and sanitizers need.
  }).join();
}

// How many were answered without having asked, after all of `expected` were or ten seconds.
std::size_t count_sent_away(const std::vector<UniqueFd>& clients, std::size_t expected) {
  std::size_t count = 0;
  for (int i = 0; i < 160 && count < expected; ++i) {
    count = 0;
    for (const UniqueFd& client : clients) {
      pollfd entry{client.get(), POLLIN, 0};
      count += ::poll(&entry, 1, 10) == 1;
    }
  }
  return count;
}

TEST_F(ControlServiceTest, knows_a_user_and_keeps_room_for_root) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another";
  ::chmod(folder_.c_str(), 0755);
  ControlService service(path_, echo, {.clients = 4, .kept_for_root = 2, .patience = 20s});
  ASSERT_TRUE(service.start().has_value());
  std::string answered;
  std::vector<UniqueFd> silent;
  run_as_nobody([&] {
    answered = ask(path_, "x\n");
    for (int i = 0; i < 6; ++i) silent.push_back(connect_to(path_));
  });
  EXPECT_EQ(answered, "x by a user\n");
  EXPECT_EQ(ask(path_, "x\n"), "x by root\n") << "in spite of the silent ones";
  EXPECT_EQ(count_sent_away(silent, 4), 4U) << "two are listened to, the others are not";
}

TEST_F(ControlServiceTest, silent_client_is_sent_away) {
  ControlService service(path_, echo, {.clients = 1, .line_bytes = 100, .patience = 200ms});
  ASSERT_TRUE(service.start().has_value());
  const UniqueFd silent = connect_to(path_);
  EXPECT_EQ(ask(path_, "x\n").substr(0, 1), "x");
  EXPECT_EQ(read_all(silent.get()), "");
}

TEST_F(ControlServiceTest, endless_line_is_refused) {
  ControlService service(path_, echo, {.clients = 1, .line_bytes = 100, .patience = 5000ms});
  ASSERT_TRUE(service.start().has_value());
  const json reply = json::parse(ask(path_, std::string(600, 'x')));
  EXPECT_EQ(reply["ok"], false);
  EXPECT_EQ(reply["usage"], true);
}

TEST_F(ControlServiceTest, stale_socket_is_replaced) {
  {
    std::filesystem::create_directory(folder_ + "/run");
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  ControlService service(path_, echo);
  ASSERT_TRUE(service.start().has_value());
  EXPECT_NE(ask(path_, "x\n"), "no connection");
}

TEST_F(ControlServiceTest, living_socket_is_not_stolen) {
  ControlService first(path_, echo);
  ASSERT_TRUE(first.start().has_value());
  {
    ControlService second(path_, echo);
    const auto refused = second.start();
    ASSERT_FALSE(refused.has_value());
    EXPECT_NE(refused.error().message().find("another process answers"), std::string::npos);
  }
  EXPECT_NE(ask(path_, "x\n"), "no connection");
}

TEST_F(ControlServiceTest, other_file_of_that_name_is_left_alone) {
  std::filesystem::create_directory(folder_ + "/run");
  std::ofstream(path_) << "precious";
  ControlService service(path_, echo);
  EXPECT_FALSE(service.start().has_value());
  EXPECT_EQ(std::filesystem::file_size(path_), 8U);
}

TEST_F(ControlServiceTest, stop_takes_the_socket_away_and_does_not_wait_for_clients) {
  ControlService service(path_, echo);
  ASSERT_TRUE(service.start().has_value());
  const UniqueFd idle = connect_to(path_);
  const auto begin = std::chrono::steady_clock::now();
  service.stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
  EXPECT_FALSE(std::filesystem::exists(path_));
}

class ControlCommandsTest : public ::testing::Test {
 protected:
  ControlCommandsTest() {
    registry_.add(lun_);
    registry_.add_failure("vm2", "vm2: dest: no such file: is its file system mounted?");
  }

  json answer(std::string_view line, bool privileged = true) {
    const std::string reply = answer_control_line(registry_, line, privileged);
    EXPECT_EQ(reply.back(), '\n');
    EXPECT_EQ(std::count(reply.begin(), reply.end(), '\n'), 1);
    return json::parse(reply);
  }

  std::shared_ptr<Lun> lun_ = std::make_shared<Lun>(
      nullptr, "memory", Options{},
      testing::make_memory_clone(std::make_shared<testing::MemoryCloneControl>(1 << 20)));
  LunRegistry registry_;
};

TEST_F(ControlCommandsTest, list_shows_open_and_failed_luns) {
  const json reply = answer("list");
  ASSERT_EQ(reply["ok"], true);
  ASSERT_EQ(reply["result"].size(), 2U);
  EXPECT_EQ(reply["result"][0]["name"], "memory");
  EXPECT_EQ(reply["result"][0]["size_bytes"], 1 << 20);
  EXPECT_EQ(reply["result"][1]["state"], "failed");
  EXPECT_EQ(reply["result"][1]["mode"], "Fail");
  EXPECT_EQ(reply["result"][1]["reason"], "vm2: dest: no such file: is its file system mounted?");
}

TEST_F(ControlCommandsTest, status_knows_names) {
  EXPECT_EQ(answer("status memory")["result"]["name"], "memory");
  EXPECT_EQ(answer("  status   vm2  ", false)["result"]["state"], "failed");
  const json unknown = answer("status vm9");
  EXPECT_EQ(unknown["ok"], false);
  EXPECT_EQ(unknown["usage"], false);
}

TEST_F(ControlCommandsTest, root_may_have_a_failure_forgotten_and_nothing_else) {
  EXPECT_EQ(answer("forget vm2", false)["ok"], false);
  EXPECT_EQ(answer("forget vm2")["ok"], true);
  EXPECT_EQ(answer("list")["result"].size(), 1U);
  EXPECT_EQ(answer("forget vm2")["ok"], false);
  EXPECT_EQ(answer("forget memory")["ok"], false);
  EXPECT_EQ(answer("status memory")["ok"], true);
}

TEST_F(ControlCommandsTest, messages_are_for_root) {
  EXPECT_EQ(answer("message memory enable_hydration")["ok"], true);
  const json refused = answer("message memory enable_hydration", false);
  EXPECT_EQ(refused["ok"], false);
  EXPECT_EQ(refused["usage"], false);
}

TEST_F(ControlCommandsTest, message_to_a_failed_lun_says_why_not) {
  const json reply = answer("message vm2 enable_hydration");
  EXPECT_EQ(reply["ok"], false);
  EXPECT_NE(reply["error"].get<std::string>().find("no such file"), std::string::npos);
}

TEST_F(ControlCommandsTest, everybody_may_see_a_verification_and_root_starts_and_stops_it) {
  EXPECT_EQ(answer("verify memory", false)["result"]["state"], "none");
  EXPECT_EQ(answer("verify memory start", false)["ok"], false);
  EXPECT_EQ(answer("verify memory", false)["result"]["state"], "none");
  EXPECT_EQ(answer("verify memory start")["result"]["state"], "running");
  EXPECT_EQ(answer("verify memory", false)["result"]["state"], "running");
  EXPECT_EQ(answer("verify memory stop")["result"]["state"], "stopped");
  EXPECT_EQ(answer("verify memory pause")["usage"], true);
  EXPECT_EQ(answer("verify nobody")["usage"], false);
  EXPECT_NE(answer("verify vm2")["error"].get<std::string>().find("no such file"),
            std::string::npos);
}

TEST_F(ControlCommandsTest, words_may_be_escaped_and_bad_escapes_are_usage_errors) {
  EXPECT_EQ(answer("status %6demory")["result"]["name"], "memory");
  registry_.add_failure("my disk", "why");
  EXPECT_EQ(answer("status my%20disk")["result"]["name"], "my disk");
  for (const char* line : {"status m%", "status m%4", "status m%zz", "status m%+1", "status %00"}) {
    EXPECT_EQ(answer(line)["usage"], true) << line;
  }
}

TEST_F(ControlCommandsTest, wrong_requests_are_usage_errors) {
  for (const char* line : {"", "lists", "list x", "status", "status a b", "message memory",
                           "verify", "verify memory start now"}) {
    const json reply = answer(line);
    EXPECT_EQ(reply["ok"], false) << line;
    EXPECT_EQ(reply["usage"], true) << line;
  }
  EXPECT_EQ(answer("\xff\xfe\x01")["usage"], true);
}

TEST(LunRegistry, failure_makes_room_for_the_lun_and_never_hides_it) {
  LunRegistry registry;
  registry.add_failure("memory", "early");
  const auto lun = std::make_shared<Lun>(
      nullptr, "memory", Options{},
      testing::make_memory_clone(std::make_shared<testing::MemoryCloneControl>(4096)));
  registry.add(lun);
  registry.add_failure("memory", "late");
  EXPECT_TRUE(registry.is_open("memory"));
  registry.remove("memory");
  EXPECT_FALSE(registry.find("memory").has_value());
}

TEST(LunRegistry, keeps_only_so_many_failures_and_drops_the_oldest) {
  LunRegistry registry;
  for (std::size_t i = 0; i <= LunRegistry::kMostFailures; ++i) {
    registry.add_failure("vm" + std::to_string(i), "why");
  }
  EXPECT_EQ(registry.all().size(), LunRegistry::kMostFailures);
  EXPECT_FALSE(registry.find("vm0").has_value());
  EXPECT_TRUE(registry.find("vm1").has_value());
}

}  // namespace
}  // namespace clonedev
