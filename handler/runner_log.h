// The way into tcmu-runner's log.
//
// Thread: any. The runner writes its log file synchronously under one lock: callers on the I/O path
// must limit their own rate (see LogLimiter).
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace clonedev {

// Level as in syslog(3). `text` is one message without a newline; a long one becomes several lines.
void runner_log(int level, std::string_view text);

// The same as a sink for the library's own messages; takes a line with or without its newline.
void runner_log_sink(int level, const char* line);

// Lets one message a second through and tells how many it held back.
class LogLimiter {
 public:
  // True: log now; `held_back` is how many were suppressed since the last one.
  bool allow(std::uint64_t& held_back);

 private:
  std::atomic<std::int64_t> next_ms_{0};
  std::atomic<std::uint64_t> held_back_{0};
};

}  // namespace clonedev
