#include "runner_log.h"

#include <syslog.h>

#include <algorithm>
#include <chrono>

#include "tcmu_abi.h"

namespace clonedev {
namespace {

// The runner cuts a message at 254 bytes, its own "clone:0: " included, and loses the newline.
constexpr std::size_t kLongestLine = 230;

using Printer = void (*)(tcmu_device*, const char*, int, const char*, ...);

Printer printer_for(int level) {
  if (level <= LOG_ERR) return tcmu_err_message;
  if (level == LOG_WARNING) return tcmu_warn_message;
  if (level <= LOG_INFO) return tcmu_info_message;
  return tcmu_dbg_message;
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

std::size_t line_length(std::string_view text) {
  if (text.size() <= kLongestLine) return text.size();
  const std::size_t blank = text.rfind(' ', kLongestLine);
  return blank == std::string_view::npos || blank == 0 ? kLongestLine : blank;
}

}  // namespace

void runner_log(int level, std::string_view raw) {
  // Names and error texts come from outside; a line break in one must not forge a log line.
  std::string line(raw);
  std::replace_if(line.begin(), line.end(), is_control, ' ');
  std::string_view text(line);
  const Printer print = printer_for(level);
  while (!text.empty()) {
    const std::size_t length = line_length(text);
    // No device is named: its name would eat into the 254 bytes; our texts begin with it instead.
    print(nullptr, "clone", 0, "%.*s\n", static_cast<int>(length), text.data());
    text.remove_prefix(length);
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  }
}

void runner_log_sink(int level, const char* line) {
  std::string_view text(line);
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  runner_log(level, text);
}

bool LogLimiter::allow(std::uint64_t& held_back) {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::steady_clock::now().time_since_epoch())
                       .count();
  std::int64_t next = next_ms_.load(std::memory_order_relaxed);
  if (now < next || !next_ms_.compare_exchange_strong(next, now + 1000)) {
    held_back_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  held_back = held_back_.exchange(0);
  return true;
}

}  // namespace clonedev
