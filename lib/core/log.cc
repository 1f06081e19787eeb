#include "core/log.h"

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "clonedev/clone_device.h"

namespace clonedev {
namespace {

void to_stderr(int /*level*/, const char* line) { std::fprintf(stderr, "tcmu-clone: %s\n", line); }

std::atomic<LogSink> current_sink{to_stderr};

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

}  // namespace

void set_log_sink(LogSink sink) { current_sink.store(sink != nullptr ? sink : to_stderr); }

void log_text(int level, std::string line) {
  std::replace_if(line.begin(), line.end(), is_control, ' ');
  current_sink.load()(level, line.c_str());
}

}  // namespace clonedev
