// Bytes a second over the last seconds. Thread: one.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>

namespace clonedev {

class RateMeter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  void add(std::uint64_t bytes) { total_ += bytes; }
  // Closes an interval; to be called about once a second.
  void tick(TimePoint now) {
    marks_.push_back({now, total_});
    while (marks_.size() > 2 && now - marks_[1].time >= kMemory) marks_.pop_front();
  }
  std::uint64_t bytes_per_second() const {
    if (marks_.size() < 2) return 0;
    const auto time = std::chrono::duration<double>(marks_.back().time - marks_.front().time);
    if (time.count() <= 0) return 0;
    return static_cast<std::uint64_t>(
        static_cast<double>(marks_.back().total - marks_.front().total) / time.count());
  }

 private:
  static constexpr std::chrono::seconds kMemory{5};
  struct Mark {
    TimePoint time;
    std::uint64_t total;
  };

  std::uint64_t total_ = 0;
  std::deque<Mark> marks_;
};

}  // namespace clonedev
