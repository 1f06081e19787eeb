// How a command of clonectl ends when it does not succeed.
#pragma once

#include <stdexcept>
#include <string>

namespace clonectl {

enum class ExitCode { done = 0, failed = 1, usage = 2, damaged = 3, timed_out = 4 };

// Thrown by commands, caught in main alone. The text is "what: why: what to do".
class CommandError : public std::runtime_error {
 public:
  CommandError(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

[[noreturn]] inline void misused(const std::string& text) {
  throw CommandError(ExitCode::usage, text);
}

}  // namespace clonectl
