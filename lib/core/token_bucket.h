// A rate that is kept on average, with next to no burst: who has taken something waits until it is
// paid for. A new rate applies at once to what is still owed.
//
// Pure. Units: bytes. Thread: one.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace clonedev {

class TokenBucket {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;

  // Bytes a second; 0: no limit.
  void set_rate(std::uint64_t rate, TimePoint now) {
    if (rate == rate_) return;
    if (rate == 0 || rate_ == 0) {
      paid_at_ = now;
    } else if (paid_at_ > now) {
      const double owed = std::chrono::duration<double>(paid_at_ - now).count();
      paid_at_ = now + seconds(owed * static_cast<double>(rate_) / static_cast<double>(rate));
    }
    rate_ = rate;
  }
  std::uint64_t rate() const { return rate_; }
  // When the next may be taken.
  TimePoint ready_at() const { return paid_at_; }
  void take(std::uint64_t bytes, TimePoint now) {
    if (rate_ == 0) return;
    const TimePoint from = std::max(paid_at_, now - kBurst);
    paid_at_ = from + seconds(static_cast<double>(bytes) / static_cast<double>(rate_));
  }

 private:
  // Of timers that come late.
  static constexpr std::chrono::milliseconds kBurst{20};

  static Duration seconds(double count) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(count));
  }

  std::uint64_t rate_ = 0;
  TimePoint paid_at_{};
};

}  // namespace clonedev
