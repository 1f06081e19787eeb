#include "fake_daemon.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

FakeDaemon::FakeDaemon(const std::string& socket_path, Answer answer)
    : answer_(std::move(answer)), listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof(address.sun_path) - 1);
  EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(listener_, 8), 0);
  EXPECT_EQ(::pipe(stop_), 0);
  thread_ = std::thread([this] { serve(); });
}

FakeDaemon::~FakeDaemon() {
  ::close(stop_[1]);
  thread_.join();
  ::close(stop_[0]);
  ::close(listener_);
}

std::vector<std::string> FakeDaemon::requests() {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void FakeDaemon::serve() {
  for (;;) {
    pollfd fds[] = {{listener_, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    ::poll(fds, 2, -1);
    if (fds[1].revents != 0) {
      return;
    }
    const int fd = ::accept(listener_, nullptr, nullptr);
    if (fd >= 0) {
      serve_one(fd);
      ::close(fd);
    }
  }
}

void FakeDaemon::serve_one(int fd) {
  std::string line;
  char byte = 0;
  while (::read(fd, &byte, 1) == 1 && byte != '\n') {
    line += byte;
  }
  {
    const std::lock_guard lock(mutex_);
    requests_.push_back(line);
  }
  const std::string reply = answer_(line);
  if (reply == kSilence) {
    pollfd stop = {stop_[0], POLLIN, 0};
    ::poll(&stop, 1, 2000);
    return;
  }
  for (std::size_t sent = 0; sent < reply.size();) {
    const ssize_t n = ::send(fd, reply.data() + sent, reply.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) {
      return;
    }
    sent += static_cast<std::size_t>(n);
  }
}
