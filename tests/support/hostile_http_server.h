// An HTTP server that can do what no real one does: it reads requests, and then says whatever its
// script says. A thread a connection.
//
// Thread: the script runs in threads of the server's own, several at a time; destruction closes the
// sockets and joins them.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace clonedev {

// The script's end of one connection. Everything returns false once the peer is gone.
class HostileHttpPeer {
 public:
  struct Request {
    std::string head;  // As it came.
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    bool has(const std::string& text) const { return head.find(text) != std::string::npos; }
    std::uint64_t length() const { return last - first + 1; }
  };

  explicit HostileHttpPeer(int fd) : fd_(fd) {}

  bool next(Request& request);
  bool send(const std::string& text);
  // 206 with everything as it should be, and `more` header lines.
  bool answer(const Request& request, const std::string& content, const std::string& more = {});
  // Sleeps until the peer has hung up, ten seconds at most.
  void wait_for_hangup();

 private:
  int fd_;
};

class HostileHttpServer {
 public:
  using Script = std::function<void(HostileHttpPeer&)>;

  explicit HostileHttpServer(Script script);
  HostileHttpServer(const HostileHttpServer&) = delete;
  HostileHttpServer& operator=(const HostileHttpServer&) = delete;
  ~HostileHttpServer();

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/disk"; }

 private:
  void serve();

  Script script_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<int> peers_;            // protected by mutex_; -1: ended.
  std::vector<std::thread> threads_;  // Of the accepting thread, then of the destructor.
  std::thread acceptor_;
};

}  // namespace clonedev
