// One line to the log, from any thread. The daemon's log is set by set_log_sink (clone_device.h);
// until then lines go to stderr. Rate limits are the caller's business.
#pragma once

#include <fmt/format.h>
#include <syslog.h>

#include <string>
#include <utility>

namespace clonedev {

// Hands one finished line, without its newline, to the sink; level as in syslog(3). Control
// characters, which a peer may have smuggled into an error text, come out as blanks.
void log_text(int level, std::string line);

template <class... Args>
void log_line(int level, fmt::format_string<Args...> format, Args&&... args) {
  log_text(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace clonedev
