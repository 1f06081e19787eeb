// Stretches of time with hydration, and without, of one LUN that was opened with hydration=off.
#pragma once

#include "bench/native/bench_lun.h"
#include "bench/native/timing.h"

namespace clonedev::bench {

class HydrationPhases {
 public:
  explicit HydrationPhases(BenchLun& lun) : lun_(lun) {}

  // Hydrates while `body` runs, and measures how fast.
  template <class Body>
  void hydrating(Body&& body) {
    const std::uint64_t before = origin_blocks();
    lun_.message("enable_hydration");
    const auto begin = Clock::now();
    std::forward<Body>(body)();
    const double seconds = seconds_since(begin);
    const std::uint64_t after = origin_blocks();
    lun_.message("disable_hydration");
    if (after == 0) {
      give_up("hydration was complete before the measurement was: take a larger --size");
    }
    rates_.push_back(static_cast<double>((before - after) * 4096) / seconds);
    wait_until_idle();
  }

  // Bytes a second.
  const std::vector<double>& rates() const { return rates_; }

 private:
  std::uint64_t origin_blocks() const { return lun_.status()["blocks"]["origin"]; }
  void wait_until_idle() const;

  BenchLun& lun_;
  std::vector<double> rates_;
};

}  // namespace clonedev::bench
