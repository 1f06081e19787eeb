#include "bench/native/chains.h"

namespace clonedev::bench {

Chains::Times Chains::run(std::uint64_t count, std::size_t depth, Operation operation) {
  Chains chains(count, std::move(operation));
  const auto begin = Clock::now();
  for (std::size_t i = 0; i < depth; ++i) chains.start_next();
  std::unique_lock lock(chains.mutex_);
  chains.all_ended_.wait(lock, [&] { return chains.ended_ == count; });
  return {seconds_since(begin), std::move(chains.microseconds_)};
}

Chains::Chains(std::uint64_t count, Operation operation)
    : count_(count), operation_(std::move(operation)), microseconds_(count) {}

void Chains::start_next() {
  std::uint64_t turn = 0;
  {
    const std::lock_guard lock(mutex_);
    if (started_ == count_) return;
    turn = started_++;
  }
  operation_(turn, [this, turn, begin = Clock::now()] { end(turn, begin); });
}

void Chains::end(std::uint64_t turn, Clock::time_point begin) {
  const double taken = seconds_since(begin) * 1e6;
  // The next one first: when the last has been counted, this object may be gone.
  start_next();
  const std::lock_guard lock(mutex_);
  microseconds_[turn] = taken;
  if (++ended_ == count_) all_ended_.notify_one();
}

}  // namespace clonedev::bench
