// What this process has used so far.
#pragma once

#include <sys/resource.h>

#include <fstream>
#include <string>

namespace clonedev::bench {

inline double cpu_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

// `field`: RssAnon (now), VmHWM (the most so far, files and shared memory included): proc(5).
inline std::uint64_t memory_bytes(const std::string& field) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":")) return std::stoull(line.substr(field.size() + 1)) << 10;
  }
  return 0;
}

}  // namespace clonedev::bench
