#include "target_helper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "command_error.h"
#include "environment.h"
#include "human.h"

extern char** environ;

namespace clonectl {
namespace {

// In a process group of its own: a Ctrl-C is for clonectl, which then lets it finish.
int spawn(const std::string& program, int socket, int lock, pid_t& child) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, socket, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, lock, STDERR_FILENO + 1);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  std::string name = program;
  std::array<char*, 2> words = {name.data(), nullptr};
  const int error =
      ::posix_spawn(&child, program.c_str(), &actions, &attributes, words.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

}  // namespace

TargetHelper::TargetHelper(const ConfFolder& folder) {
  const std::string program = from_environment("TCMU_CLONE_HELPER", CLONECTL_HELPER);
  std::array<int, 2> ends = {-1, -1};
  int error = ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0 ? 0 : errno;
  if (error == 0) error = spawn(program, ends[1], folder.fd(), child_);
  ::close(ends[1]);
  fd_ = ends[0];
  if (error == 0) return;
  ::close(fd_);
  throw CommandError(ExitCode::failed, fmt::format("{}: cannot be run: {}: is tcmu-clone installed "
                                                   "whole?",
                                                   program, std::strerror(error)));
}

TargetHelper::~TargetHelper() { end(); }

Json TargetHelper::request(const Json& what) {
  const std::string line = what.dump() + "\n";
  if (::send(fd_, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size())) {
    received_.clear();  // Its reply may say why it has gone; none does.
  }
  const Json reply = Json::parse(read_line(), nullptr, false);
  if (!reply.is_object()) {
    throw CommandError(ExitCode::failed, "the helper for the targets died");
  }
  if (reply.value("ok", false)) return reply.value("result", Json());
  throw CommandError(ExitCode::failed, printable(reply.value("error", std::string("failed"))));
}

std::string TargetHelper::end() {
  if (fd_ < 0) return {};
  ::shutdown(fd_, SHUT_WR);
  const Json last = Json::parse(read_line(), nullptr, false);
  ::close(fd_);
  fd_ = -1;
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  if (last.is_object()) return printable(last.value("error", std::string()));
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "the helper for the targets died";
}

std::string TargetHelper::read_line() {
  std::array<char, 4096> buffer;
  std::size_t end = 0;
  while ((end = received_.find('\n')) == std::string::npos) {
    const ssize_t got = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return {};
    received_.append(buffer.data(), static_cast<std::size_t>(got));
  }
  const std::string line = received_.substr(0, end);
  received_.erase(0, end + 1);
  return line;
}

}  // namespace clonectl
