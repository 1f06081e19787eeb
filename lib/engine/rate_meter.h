// Bytes a second, smoothed over some seconds. Thread: one.
#pragma once

#include <chrono>
#include <cstdint>

namespace clonedev {

class RateMeter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  void add(std::uint64_t bytes) { bytes_ += bytes; }
  // Closes an interval; to be called about once a second.
  void tick(TimePoint now) {
    const double seconds = std::chrono::duration<double>(now - last_).count();
    if (last_ != TimePoint{} && seconds > 0) {
      const double rate = static_cast<double>(bytes_) / seconds;
      smooth_ = smooth_ == 0 ? rate : smooth_ * 0.7 + rate * 0.3;
      if (smooth_ < 1) smooth_ = 0;
    }
    last_ = now;
    bytes_ = 0;
  }
  std::uint64_t bytes_per_second() const { return static_cast<std::uint64_t>(smooth_); }

 private:
  std::uint64_t bytes_ = 0;
  double smooth_ = 0;
  TimePoint last_{};
};

}  // namespace clonedev
