#include "troubled_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

namespace clonedev {
namespace {

constexpr auto kLate = std::chrono::milliseconds(300);
constexpr int kPollMs = 20;

std::string inverted(std::string bytes) {
  for (char& byte : bytes) byte = static_cast<char>(~byte);
  return bytes;
}

}  // namespace

TroubledServer::TroubledServer(std::string content)
    : content_(std::move(content)), other_(inverted(content_)) {}

TroubledServer::~TroubledServer() = default;

void TroubledServer::listen() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port_);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener_, 64) != 0) {
    std::abort();
  }
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this, listener = listener_] { accept_all(listener); });
}

void TroubledServer::accept_all(int listener) {
  for (int fd; (fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    ++accepted_;
    const std::lock_guard lock(mutex_);
    const std::size_t place = peers_.size();
    peers_.push_back(fd);
    threads_.emplace_back([this, fd, place] {
      serve(fd);
      const std::lock_guard ending(mutex_);
      peers_[place] = -1;
      ::close(fd);
    });
  }
}

void TroubledServer::hang_up() {
  const std::lock_guard lock(mutex_);
  for (const int fd : peers_) {
    if (fd >= 0) ::shutdown(fd, SHUT_RDWR);
  }
}

void TroubledServer::stop() {
  if (listener_ < 0) return;
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  ::close(listener_);
  listener_ = -1;
  hang_up();
  join_all();
}

// Nobody accepts any more, so there are no new ones.
void TroubledServer::join_all() {
  std::vector<std::thread> ended;
  {
    const std::lock_guard lock(mutex_);
    ended.swap(threads_);
  }
  for (std::thread& thread : ended) thread.join();
  peers_.clear();
}

void TroubledServer::set(Trouble trouble) {
  held_ = false;
  trouble_ = trouble;
  if (trouble == Trouble::gone) return stop();
  if (listener_ < 0) listen();
  if (trouble == Trouble::other_content) hang_up();
}

const std::string& TroubledServer::content() const {
  return trouble_ == Trouble::other_content ? other_ : content_;
}

bool TroubledServer::ready_to_answer(int fd) {
  if (trouble_ == Trouble::slow) std::this_thread::sleep_for(kLate);
  pollfd peer{fd, POLLRDHUP, 0};
  while (trouble_ == Trouble::stalled) {
    held_ = true;
    if (::poll(&peer, 1, kPollMs) != 0) return false;
  }
  return true;
}

bool TroubledServer::is_bad(std::uint64_t offset, std::uint64_t length) const {
  if (trouble_ == Trouble::all_errors) return true;
  return trouble_ == Trouble::bad_sector && offset + length > content_.size() - kBlock;
}

void TroubledServer::reset(int fd) {
  const linger at_once{1, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

}  // namespace clonedev
