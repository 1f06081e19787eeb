#include "control_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "command_error.h"

namespace clonectl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxReply = 64 << 20;

class Connection {
 public:
  Connection(const std::string& path, std::chrono::milliseconds patience)
      : path_(path),
        deadline_(Clock::now() + patience),
        fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    if (fd_ < 0) {
      give_up(errno);
    }
    connect();
  }
  ~Connection() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void send_line(const std::string& line) {
    std::string_view rest = line;
    while (!rest.empty()) {
      const ssize_t sent = ::send(fd_, rest.data(), rest.size(), MSG_NOSIGNAL);
      if (sent >= 0) {
        rest.remove_prefix(static_cast<std::size_t>(sent));
      } else {
        wait_or_give_up(POLLOUT);
      }
    }
  }

  std::string read_line() {
    std::string line;
    char buffer[16384];
    while (line.size() < kMaxReply) {
      const ssize_t got = ::recv(fd_, buffer, sizeof(buffer), 0);
      if (got < 0) {
        wait_or_give_up(POLLIN);
        continue;
      }
      if (got == 0) {
        throw CommandError(ExitCode::failed,
                           fmt::format("{}: the daemon hung up without an answer: look into the "
                                       "log of tcmu-runner",
                                       path_));
      }
      line.append(buffer, static_cast<std::size_t>(got));
      if (const auto end = line.find('\n'); end != std::string::npos) {
        line.resize(end);
        return line;
      }
    }
    throw CommandError(ExitCode::failed, path_ + ": the reply is too long: is this the daemon?");
  }

 private:
  void connect() {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path_.size() >= sizeof(address.sun_path)) {
      throw CommandError(ExitCode::usage,
                         path_ + ": the path is too long for a socket: choose a shorter one");
    }
    std::memcpy(address.sun_path, path_.data(), path_.size());
    // EAGAIN here means a full backlog, which poll(2) does not report on a Unix socket.
    while (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
      if (errno != EAGAIN && errno != EINTR) {
        give_up(errno);
      }
      if (Clock::now() >= deadline_) {
        time_out();
      }
      ::poll(nullptr, 0, 20);
    }
  }

  void wait_or_give_up(short events) const {
    if (errno != EAGAIN && errno != EINTR) {
      give_up(errno);
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now());
    pollfd poll_fd = {fd_, events, 0};
    if (left.count() <= 0 || ::poll(&poll_fd, 1, static_cast<int>(left.count())) == 0) {
      time_out();
    }
  }

  [[noreturn]] void give_up(int error) const {
    const char* advice = error == EACCES || error == EPERM
                             ? "try again as root"
                             : "is tcmu-runner running with handler_clone.so?";
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: cannot talk to the daemon: {}: {}", path_,
                                   std::generic_category().message(error), advice));
  }

  [[noreturn]] void time_out() const {
    throw CommandError(ExitCode::timed_out,
                       path_ + ": the daemon does not answer: look into the log of tcmu-runner");
  }

  const std::string& path_;
  Clock::time_point deadline_;
  int fd_;
};

ExitCode exit_code_of(const Json& reply) {
  if (reply.value("usage", false)) {
    return ExitCode::usage;
  }
  return reply.value("damaged", false) ? ExitCode::damaged : ExitCode::failed;
}

Json result_of(const std::string& path, const std::string& line) {
  const Json reply = Json::parse(line, nullptr, false);
  try {
    if (reply.at("ok").get<bool>()) {
      return reply.value("result", Json());
    }
    throw CommandError(exit_code_of(reply), reply.at("error").get<std::string>());
  } catch (const Json::exception&) {
    throw CommandError(ExitCode::failed,
                       path +
                           ": the reply is not understood: do clonectl and the handler have the "
                           "same version?");
  }
}

}  // namespace

std::string encode_word(std::string_view word) {
  std::string encoded;
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f || c == '%') {
      encoded += fmt::format("%{:02X}", byte);
    } else {
      encoded += c;
    }
  }
  return encoded;
}

Json ControlClient::request(const std::vector<std::string>& words,
                            std::chrono::milliseconds patience) const {
  std::string line;
  for (const std::string& word : words) {
    line += (line.empty() ? "" : " ") + encode_word(word);
  }
  Connection connection(socket_path_, patience);
  connection.send_line(line + "\n");
  return result_of(socket_path_, connection.read_line());
}

}  // namespace clonectl
