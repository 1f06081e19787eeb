#include "support/slow_device.h"

namespace clonedev {

void SlowDevice::release() {
  held_ = 0;
  released_.wake_all();
}

SlowDevice::Split SlowDevice::split(Delay delay) {
  if (pace_) {
    const Scheduler::Duration before = pace_();
    return {before, pace_()};
  }
  using Ticks = Scheduler::Duration::rep;
  std::uniform_int_distribution<Ticks> total(delay.least.count(), delay.most.count());
  const Ticks all = total(random_);
  const Ticks before = std::uniform_int_distribution<Ticks>(0, all)(random_);
  return {Scheduler::Duration(before), Scheduler::Duration(all - before)};
}

Task<Result<>> SlowDevice::read(std::uint64_t offset, std::span<const iovec> data) {
  ++in_flight_;
  const Split time = split(delays_.read);
  co_await scheduler_.sleep_for(time.before);
  while (held_ & kRead) co_await released_.wait();
  auto outcome = co_await lower_.read(offset, data);
  co_await scheduler_.sleep_for(time.after);
  --in_flight_;
  co_return outcome;
}

Task<Result<>> SlowDevice::write(std::uint64_t offset, std::span<const iovec> data) {
  ++in_flight_;
  const Split time = split(delays_.write);
  co_await scheduler_.sleep_for(time.before);
  while (held_ & kWrite) co_await released_.wait();
  auto outcome = co_await lower_.write(offset, data);
  co_await scheduler_.sleep_for(time.after);
  --in_flight_;
  co_return outcome;
}

Task<Result<>> SlowDevice::flush() {
  ++in_flight_;
  const Split time = split(delays_.flush);
  const Scheduler::Duration whole = time.before + time.after;
  while (held_ & kFlush) co_await released_.wait();
  auto outcome = co_await lower_.flush();
  co_await scheduler_.sleep_for(whole);
  --in_flight_;
  co_return outcome;
}

Task<Result<>> SlowDevice::zero(Extent extent, bool deallocate) {
  ++in_flight_;
  const Split time = split(delays_.zero);
  co_await scheduler_.sleep_for(time.before);
  while (held_ & kZero) co_await released_.wait();
  auto outcome = co_await lower_.zero(extent, deallocate);
  co_await scheduler_.sleep_for(time.after);
  --in_flight_;
  co_return outcome;
}

}  // namespace clonedev
