#include "clonectl_fixture.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

extern char** environ;

namespace {

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) {
    result.push_back(word.data());
  }
  result.push_back(nullptr);
  return result;
}

}  // namespace

void ClonectlTest::SetUp() {
  std::string path = "/tmp/clonectl-XXXXXX";  // A socket path must be short.
  ASSERT_NE(::mkdtemp(path.data()), nullptr);
  folder_ = path;
  socket_ = folder_ / "control.sock";
}

void ClonectlTest::TearDown() {
  daemon_.reset();
  std::filesystem::remove_all(folder_);
}

Outcome ClonectlTest::run(const std::vector<std::string>& arguments) const {
  std::vector<std::string> words = {CLONECTL_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = {"TCMU_CLONE_SOCKET=" + socket_.string(),
                                        "TCMU_CLONE_CONFIGFS=" + (folder_ / "config").string(),
                                        "TCMU_CLONE_HELPER=" + (folder_ / "helper").string(),
                                        "TCMU_CLONE_CONF_DIR=" + (folder_ / "clone.d").string()};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    variables.emplace_back(*variable);
  }
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  for (const auto& [fd, name] : {std::pair{1, "out"}, std::pair{2, "err"}}) {
    ::posix_spawn_file_actions_addopen(&actions, fd, (folder_ / name).c_str(),
                                       O_WRONLY | O_CREAT | O_TRUNC, 0600);
  }
  pid_t child = 0;
  const int failed = ::posix_spawn(&child, CLONECTL_BINARY, &actions, nullptr,
                                   pointers(words).data(), pointers(variables).data());
  ::posix_spawn_file_actions_destroy(&actions);
  EXPECT_EQ(failed, 0);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "clonectl was killed by signal " << WTERMSIG(status);
  return {WEXITSTATUS(status), slurp(folder_ / "out"), slurp(folder_ / "err")};
}

void ClonectlTest::start_daemon(FakeDaemon::Answer answer) {
  daemon_.reset();
  std::filesystem::remove(socket_);  // Of the daemon before.
  daemon_ = std::make_unique<FakeDaemon>(socket_.string(), std::move(answer));
}

std::string ClonectlTest::ok(const std::string& result) {
  return R"({"ok":true,"result":)" + result + "}\n";
}

std::string ClonectlTest::error(const std::string& text, const std::string& more) {
  return R"({"ok":false,"error":")" + text + "\"" + more + "}\n";
}

std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void spill(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

clonedev::Status example_status(const std::string& name) {
  clonedev::Status s;
  s.name = name;
  s.size_bytes = 100ULL << 30;
  s.region_bytes = 65536;
  s.blocks = {13107200, 1048576, 12058624};
  s.regions = {819200, 12, 1638400};
  s.hydration = {true, 110100480, true, 490, 64, 16, true, 0, 11010048, ""};
  s.origin = {"connected", "", "", 40ULL << 30};
  s.errors = {0, 0, 0, 3};
  s.metadata = {6, 1024, 12};
  s.destination_direct = true;
  s.io = "io_uring";
  return s;
}
