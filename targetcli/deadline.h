// The end of a command's patience, given with --timeout; without one there is none. Thread: one.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

namespace clonectl {

class Deadline {
 public:
  explicit Deadline(std::optional<double> seconds) {
    if (seconds) {
      end_ = Clock::now() +
             std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*seconds));
    }
  }

  std::chrono::milliseconds cut(std::chrono::milliseconds pause) const {
    if (!end_) {
      return pause;
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*end_ - Clock::now());
    return std::clamp(left, std::chrono::milliseconds(0), pause);
  }
  bool passed() const { return end_ && Clock::now() >= *end_; }

 private:
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> end_;
};

}  // namespace clonectl
