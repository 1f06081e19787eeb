// A device that takes its time: every operation lasts a random time between two bounds, part of
// it before and part of it after the lower device is asked, so that requests overtake each other
// and a request may have had its effect long before its end. A flush is passed on at once and
// ends late: it never covers what was written after it began (see VolatileDevice).
//
// hold(kinds) keeps operations of these kinds from going on until release().
//
// Thread: one scheduler. The lower device outlives it.
#pragma once

#include <functional>
#include <random>

#include "io/block_device.h"
#include "io/event.h"
#include "io/scheduler.h"

namespace clonedev {

class SlowDevice final : public BlockDevice {
 public:
  enum Kind : unsigned { kRead = 1, kWrite = 2, kFlush = 4, kZero = 8, kAny = 15 };
  struct Delay {
    Scheduler::Duration least{};
    Scheduler::Duration most{};
  };
  struct Delays {
    Delay read{};
    Delay write{};
    Delay flush{};
    Delay zero{};
  };

  SlowDevice(BlockDevice& lower, Scheduler& scheduler, Delays delays, std::uint64_t seed = 1)
      : lower_(lower), scheduler_(scheduler), delays_(delays), random_(seed) {}

  void set_delays(Delays delays) { delays_ = delays; }
  // Asked twice an operation, for the time before and the time after, instead of the delays.
  void set_pace(std::function<Scheduler::Duration()> pace) { pace_ = std::move(pace); }
  // Operations that start from now on wait before they touch the lower device.
  void hold(unsigned kinds) { held_ |= kinds; }
  void release();
  // Started and not ended.
  std::size_t in_flight() const { return in_flight_; }

  std::uint64_t size() const override { return lower_.size(); }
  std::uint32_t sector_size() const override { return lower_.sector_size(); }
  Task<Result<>> read(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> write(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(Extent extent, bool deallocate) override;

 private:
  struct Split {
    Scheduler::Duration before;
    Scheduler::Duration after;
  };

  Split split(Delay delay);

  BlockDevice& lower_;
  Scheduler& scheduler_;
  Delays delays_;
  std::mt19937_64 random_;
  std::function<Scheduler::Duration()> pace_;
  unsigned held_ = 0;
  Event released_;
  std::size_t in_flight_ = 0;
};

}  // namespace clonedev
