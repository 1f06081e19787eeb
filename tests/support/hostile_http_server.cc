#include "support/hostile_http_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

namespace clonedev {

bool HostileHttpPeer::next(Request& request) {
  request = {};
  while (!request.head.ends_with("\r\n\r\n")) {
    char c = 0;
    if (request.head.size() > 16384 || ::recv(fd_, &c, 1, 0) != 1) return false;
    request.head += c;
  }
  const std::size_t range = request.head.find("Range: bytes=");
  if (range == std::string::npos) return true;
  const char* text = request.head.c_str() + range + 13;
  char* end = nullptr;
  request.first = std::strtoull(text, &end, 10);
  request.last = std::strtoull(end + 1, nullptr, 10);
  return true;
}

bool HostileHttpPeer::send(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t sent = ::send(fd_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += static_cast<std::size_t>(sent);
  }
  return true;
}

bool HostileHttpPeer::answer(const Request& request, const std::string& content,
                             const std::string& more) {
  return send(
      "HTTP/1.1 206 Partial Content\r\nContent-Length: " + std::to_string(request.length()) +
      "\r\nContent-Range: bytes " + std::to_string(request.first) + "-" +
      std::to_string(request.last) + "/" + std::to_string(content.size()) + "\r\n" + more + "\r\n" +
      content.substr(request.first, request.length()));
}

void HostileHttpPeer::wait_for_hangup() {
  pollfd peer{fd_, POLLRDHUP, 0};
  ::poll(&peer, 1, 10'000);
}

HostileHttpServer::HostileHttpServer(Script script) : script_(std::move(script)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener_, 64) != 0) {
    std::abort();
  }
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { serve(); });
}

HostileHttpServer::~HostileHttpServer() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  {
    const std::lock_guard lock(mutex_);
    for (const int fd : peers_) {
      if (fd >= 0) ::shutdown(fd, SHUT_RDWR);
    }
  }
  for (std::thread& thread : threads_) thread.join();
  ::close(listener_);
}

void HostileHttpServer::serve() {
  for (int fd; (fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    const std::lock_guard lock(mutex_);
    const std::size_t place = peers_.size();
    peers_.push_back(fd);
    threads_.emplace_back([this, fd, place] {
      HostileHttpPeer peer(fd);
      script_(peer);
      const std::lock_guard ending(mutex_);
      peers_[place] = -1;
      ::close(fd);
    });
  }
}

}  // namespace clonedev
