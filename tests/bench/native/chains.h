// Operations of which a number is in flight all the time: each that ends starts the next, on the
// thread that it ended on, as qemu-img bench does. So no thread of the measurement is woken.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "bench/native/timing.h"

namespace clonedev::bench {

class Chains {
 public:
  // Starts the operation number `turn`, 0 and up; calls `ended` once, on any thread.
  using Operation = std::function<void(std::uint64_t turn, std::function<void()> ended)>;

  struct Times {
    double seconds = 0;
    std::vector<double> microseconds;  // Of each operation.
  };

  // Returns when `count` operations have ended, of which `depth` were in flight.
  static Times run(std::uint64_t count, std::size_t depth, Operation operation);

 private:
  Chains(std::uint64_t count, Operation operation);
  void start_next();
  void end(std::uint64_t turn, Clock::time_point begin);

  const std::uint64_t count_;
  const Operation operation_;
  std::mutex mutex_;  // For the rest.
  std::condition_variable all_ended_;
  std::uint64_t started_ = 0;
  std::uint64_t ended_ = 0;
  std::vector<double> microseconds_;
};

}  // namespace clonedev::bench
