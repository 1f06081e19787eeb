// What share of the time commands were under way lately: over about the last fifth of a second.
// The millisecond after the last one counts too, for a client that sends one after the other.
//
// Pure. Thread: one.
#pragma once

#include <algorithm>
#include <chrono>

namespace clonedev {

class UseMeter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  // The first one begins, the last one ends.
  void begin(TimePoint now) {
    count(now);
    in_use_ = true;
  }
  void end(TimePoint now) {
    count(now);
    in_use_ = false;
    used_until_ = now + kBetweenTwo;
  }
  // 0..1.
  double share(TimePoint now) {
    count(now);
    const Duration elapsed = now - window_began_;
    return (seconds(used_) + last_share_ * seconds(kWindow)) / seconds(elapsed + kWindow);
  }

 private:
  static constexpr std::chrono::milliseconds kBetweenTwo{1};
  static constexpr std::chrono::milliseconds kWindow{100};

  static double seconds(Duration duration) {
    return std::chrono::duration<double>(duration).count();
  }
  void count(TimePoint now) {
    const TimePoint used_to = in_use_ ? now : std::min(now, used_until_);
    if (used_to > counted_to_) used_ += used_to - counted_to_;
    counted_to_ = now;
    const Duration elapsed = now - window_began_;
    if (elapsed < kWindow) return;
    last_share_ = seconds(used_) / seconds(elapsed);
    window_began_ = now;
    used_ = {};
  }

  bool in_use_ = false;
  TimePoint used_until_{};
  TimePoint counted_to_{};
  TimePoint window_began_{};
  Duration used_{};
  double last_share_ = 0;
};

}  // namespace clonedev
