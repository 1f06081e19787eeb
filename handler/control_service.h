// The control socket: a Unix stream socket that anybody may connect to; one request a connection.
//
// A few threads of its own, each with one client at a time, so that neither the daemon's main loop
// nor a slow client holds up another. A request has a longest line and five seconds.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "clonedev/error.h"
#include "unique_fd.h"

namespace clonedev {

class ControlService {
 public:
  // Line without newline in, whole reply out. `privileged`: the peer's uid is 0. Called from
  // several threads at once; must not throw.
  using Answer = std::function<std::string(std::string_view line, bool privileged)>;

  struct Limits {
    unsigned clients = 8;
    unsigned kept_for_root = 2;  // Of these, so that no user keeps root out.
    std::size_t line_bytes = 4096;
    std::chrono::milliseconds patience{5000};
  };

  ControlService(std::string path, Answer answer, Limits limits);
  ControlService(std::string path, Answer answer) : ControlService(std::move(path), answer, {}) {}
  ~ControlService();
  ControlService(const ControlService&) = delete;
  ControlService& operator=(const ControlService&) = delete;

  // Creates the folder (0755) and the socket (0666), replaces a stale socket, never one that
  // another process answers on. On failure nothing runs and the reason is a sentence for the log.
  Result<> start();

  // Ends every connection, removes the socket, joins. Idempotent.
  void stop();

 private:
  using Deadline = std::chrono::steady_clock::time_point;

  Result<> bind_socket();
  void serve_clients();
  void serve(int client);
  void serve_user(int client);
  void converse(int client, bool privileged);
  bool read_line(int client, Deadline deadline, std::string& line);
  void write_all(int client, Deadline deadline, std::string_view text);
  bool wait_for(int fd, short events, Deadline deadline);

  // Constant after construction; listener_ and stop_event_ while threads run.
  const std::string path_;
  const Answer answer_;
  const Limits limits_;
  UniqueFd listener_;
  UniqueFd stop_event_;
  std::vector<std::thread> threads_;
  std::atomic<unsigned> users_ = 0;  // Clients other than root being served.
};

}  // namespace clonedev
