// A TCP proxy that makes a server far away: what it sends arrives DELAY_MS later, without losing
// its pace. Of each connection at most WINDOW_MIB are on the way, as a receiver's window would have
// it: 6 MiB is the largest that Linux takes by itself (net.ipv4.tcp_rmem).
//
//   delay_proxy LISTEN_PORT TARGET_PORT DELAY_MS [WINDOW_MIB]
//
// On 127.0.0.1, until it is ended. Threads: three a connection.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<char>;

sockaddr_in loopback(const char* port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
  return address;
}

void no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

bool send_all(int fd, std::span<const char> data) {
  while (!data.empty()) {
    const ssize_t sent = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    data = data.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

// What is on the way. One thread puts, one takes.
class Pipe {
 public:
  explicit Pipe(std::size_t window_bytes) : window_bytes_(window_bytes) {}

  // Empty: the end.
  void put(Bytes data, Clock::time_point due) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return bytes_ < window_bytes_ || broken_; });
    bytes_ += data.size();
    queue_.emplace_back(due, std::move(data));
    changed_.notify_all();
  }
  Bytes take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !queue_.empty(); });
    const Clock::time_point due = queue_.front().first;
    lock.unlock();
    std::this_thread::sleep_until(due);
    lock.lock();
    Bytes data = std::move(queue_.front().second);
    queue_.pop_front();
    bytes_ -= data.size();
    changed_.notify_all();
    return data;
  }
  // Nobody takes any more.
  void break_off() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    changed_.notify_all();
  }

 private:
  const std::size_t window_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<Clock::time_point, Bytes>> queue_;
  std::size_t bytes_ = 0;
  bool broken_ = false;
};

void forward(int from, int to) {
  Bytes buffer(65536);
  for (ssize_t got = 0; (got = ::recv(from, buffer.data(), buffer.size(), 0)) > 0;) {
    if (!send_all(to, {buffer.data(), static_cast<std::size_t>(got)})) break;
  }
  ::shutdown(to, SHUT_WR);
}

void receive(int from, Pipe& pipe, Clock::duration delay) {
  while (true) {
    Bytes buffer(std::size_t{256} << 10);
    const ssize_t got = ::recv(from, buffer.data(), buffer.size(), 0);
    buffer.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    const bool end = buffer.empty();
    pipe.put(std::move(buffer), Clock::now() + delay);
    if (end) return;
  }
}

void deliver(Pipe& pipe, int to) {
  for (Bytes data = pipe.take(); !data.empty(); data = pipe.take()) {
    if (!send_all(to, data)) break;
  }
  pipe.break_off();
  ::shutdown(to, SHUT_WR);
}

struct Settings {
  sockaddr_in target;
  Clock::duration delay;
  std::size_t window_bytes;
};

void serve(int client, const Settings& settings) {
  const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(server, reinterpret_cast<const sockaddr*>(&settings.target),
                sizeof settings.target) == 0) {
    no_delay(client);
    no_delay(server);
    Pipe pipe(settings.window_bytes);
    std::thread requests(forward, client, server);
    std::thread answers(receive, server, std::ref(pipe), settings.delay);
    deliver(pipe, client);
    ::shutdown(server, SHUT_RDWR);
    ::shutdown(client, SHUT_RDWR);
    requests.join();
    answers.join();
  }
  ::close(server);
  ::close(client);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: delay_proxy LISTEN_PORT TARGET_PORT DELAY_MS [WINDOW_MIB]\n");
    return 2;
  }
  const Settings settings{loopback(argv[2]), std::chrono::milliseconds(std::atoi(argv[3])),
                          static_cast<std::size_t>(argc > 4 ? std::atoi(argv[4]) : 6) << 20};
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in here = loopback(argv[1]);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 ||
      ::listen(listener, 64) != 0) {
    std::perror("delay_proxy");
    return 1;
  }
  while (true) {
    const int client = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client >= 0) std::thread(serve, client, std::cref(settings)).detach();
  }
}
