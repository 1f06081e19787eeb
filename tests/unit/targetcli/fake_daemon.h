// A control server of a few lines: answers each request with what the test has prepared.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

// Serves one connection at a time on a thread of its own until it is destroyed.
class FakeDaemon {
 public:
  // Gets the request line without its newline; what it returns is sent as it is. An empty answer
  // hangs up; kSilence keeps the connection open and says nothing for two seconds.
  using Answer = std::function<std::string(const std::string& request)>;
  static constexpr const char* kSilence = "silence";

  FakeDaemon(const std::string& socket_path, Answer answer);
  ~FakeDaemon();
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  std::vector<std::string> requests();

 private:
  void serve();
  void serve_one(int fd);

  Answer answer_;
  int listener_;
  int stop_[2];  // A pipe; closing its write end stops the server.
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};
