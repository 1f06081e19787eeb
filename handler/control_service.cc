#include "control_service.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "clonedev/service_thread.h"
#include "control_commands.h"

namespace clonedev {
namespace {

Result<> failure(const std::string& path, const std::string& why) {
  return fail(Errc::unavailable, "control socket " + path + ": " + why +
                                     ": the LUNs work, but clonectl cannot reach them");
}

Result<> system_failure(const std::string& path, const char* step) {
  return failure(path, std::string(step) + " failed (" + std::strerror(errno) + ")");
}

bool connects(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  // EAGAIN: its queue is full, so somebody listens.
  return probe && (::connect(probe.get(), generic, sizeof address) == 0 || errno == EAGAIN);
}

bool peer_is_root(int client) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == 0;
}

}  // namespace

ControlService::ControlService(std::string path, Answer answer, Limits limits)
    : path_(std::move(path)), answer_(std::move(answer)), limits_(limits) {}

ControlService::~ControlService() { stop(); }

Result<> ControlService::bind_socket() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof address.sun_path) return failure(path_, "the path is too long");
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);

  const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  if (::mkdir(folder.c_str(), 0755) == 0) {
    ::chmod(folder.c_str(), 0755);  // Whatever the daemon's umask is.
  } else if (errno != EEXIST) {
    return system_failure(path_, "creating its folder");
  }
  struct stat found {};
  if (::lstat(path_.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) return failure(path_, "something else has that name");
    if (connects(address)) return failure(path_, "another process answers on it");
    ::unlink(path_.c_str());
  }
  // Non-blocking, since several threads wait for the same connection and one of them gets it.
  listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return system_failure(path_, "socket");
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(listener_.get(), generic, sizeof address) != 0) return system_failure(path_, "bind");
  if (::chmod(path_.c_str(), 0666) != 0) return system_failure(path_, "chmod");
  if (::listen(listener_.get(), 64) != 0) return system_failure(path_, "listen");
  return {};
}

Result<> ControlService::start() {
  stop_event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event_) return system_failure(path_, "eventfd");
  if (auto bound = bind_socket(); !bound) {
    listener_.reset();
    return bound;
  }
  try {
    for (unsigned i = 0; i < limits_.clients; ++i) {
      threads_.push_back(
          start_service_thread("clone-control", Rights::none, [this] { serve_clients(); }));
    }
  } catch (const std::system_error&) {
    stop();
    return failure(path_, "there are no threads left");
  }
  return {};
}

void ControlService::stop() {
  if (!listener_) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t told = ::write(stop_event_.get(), &one, sizeof one);
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  ::unlink(path_.c_str());
  listener_.reset();
}

// False: the time is up, the service stops, or the descriptor is broken.
bool ControlService::wait_for(int fd, short events, Deadline deadline) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    const auto timeout = static_cast<int>(std::min<std::int64_t>(left.count(), 3'600'000));
    std::array<pollfd, 2> fds{pollfd{fd, events, 0}, pollfd{stop_event_.get(), POLLIN, 0}};
    const int ready = ::poll(fds.data(), fds.size(), timeout);
    if (ready < 0 && errno != EINTR) return false;
    if (fds[1].revents != 0) return false;
    if (ready > 0) return true;
  }
}

void ControlService::serve_clients() {
  while (wait_for(listener_.get(), POLLIN, Deadline::max())) {
    const UniqueFd client(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (client) {
      serve(client.get());
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
      // Out of descriptors or memory: the connection stays pending, so poll alone would spin.
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
}

void ControlService::serve(int client) {
  if (peer_is_root(client)) {
    converse(client, true);
  } else {
    serve_user(client);
  }
}

void ControlService::serve_user(int client) {
  if (++users_ + limits_.kept_for_root <= limits_.clients) {
    converse(client, false);
  } else {
    const std::string reply = control_refusal("request: too many others ask: try again", false);
    // What fits into the socket's buffer; who does not read is not waited for.
    [[maybe_unused]] const ssize_t put =
        ::send(client, reply.data(), reply.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  --users_;
}

void ControlService::converse(int client, bool privileged) {
  std::string line;
  if (!read_line(client, std::chrono::steady_clock::now() + limits_.patience, line)) return;
  const std::string reply =
      line.size() > limits_.line_bytes
          ? control_refusal("request: the line is too long: send one short line of words", true)
          : answer_(line, privileged);
  // The answer may have taken its time; the client gets all of its own.
  write_all(client, std::chrono::steady_clock::now() + limits_.patience, reply);
}

// A line longer than the limit is cut one byte after it.
bool ControlService::read_line(int client, Deadline deadline, std::string& line) {
  std::array<char, 512> buffer;
  while (line.size() <= limits_.line_bytes) {
    if (!wait_for(client, POLLIN, deadline)) return false;
    const ssize_t got = ::read(client, buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) return false;
    if (got == 0) return !line.empty();  // A client that shuts down instead of ending its line.
    line.append(buffer.data(), static_cast<std::size_t>(got));
    if (const std::size_t end = line.find('\n'); end != std::string::npos) {
      line.resize(end);
      return true;
    }
  }
  return true;
}

void ControlService::write_all(int client, Deadline deadline, std::string_view text) {
  while (!text.empty() && wait_for(client, POLLOUT, deadline)) {
    const ssize_t put = ::send(client, text.data(), text.size(), MSG_NOSIGNAL);
    if (put < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (put <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

}  // namespace clonedev
