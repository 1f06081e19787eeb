// A device that fails on purpose. Rules say which operations; fail_all() is the switch.
//
//   faulty.add({.kinds = kFlush, .skip = 2, .times = 1});         // The third flush only.
//   faulty.add({.kinds = kWrite, .range = {4096, 4096}});         // Every write of that range.
//   faulty.add({.kinds = kWrite, .effect = FaultyDevice::Effect::done});  // Done, yet an error.
//
// Thread: one scheduler. The lower device outlives it.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "io/block_device.h"

namespace clonedev {

class FaultyDevice final : public BlockDevice {
 public:
  enum Kind : unsigned { kRead = 1, kWrite = 2, kFlush = 4, kZero = 8, kAny = 15 };
  enum class Effect { none, done };

  struct Rule {
    unsigned kinds = kAny;
    Extent range{0, std::numeric_limits<std::uint64_t>::max()};  // Flushes have no range.
    std::uint64_t skip = 0;  // So many matching operations pass first.
    std::uint64_t times = std::numeric_limits<std::uint64_t>::max();
    Effect effect = Effect::none;
    Error error{std::make_error_code(std::errc::io_error), "faulty device: failed on purpose"};
  };

  explicit FaultyDevice(BlockDevice& lower) : lower_(lower) {}

  void add(Rule rule) { rules_.push_back(std::move(rule)); }
  void clear() { rules_.clear(); }
  void fail_all(bool on) { fail_all_ = on; }
  // Operations of that kind that were asked for, failed ones too.
  std::uint64_t count(Kind kind) const;
  // How many of all of them failed on purpose.
  std::uint64_t failed() const { return failed_; }

  std::uint64_t size() const override { return lower_.size(); }
  std::uint32_t sector_size() const override { return lower_.sector_size(); }
  Task<Result<>> read(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> write(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(Extent extent, bool deallocate) override;

 private:
  struct Verdict {
    bool fails = false;
    Effect effect = Effect::none;
    Error error;
  };

  Verdict judge(Kind kind, Extent extent);

  BlockDevice& lower_;
  std::vector<Rule> rules_;
  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(kAny + 1);
  bool fail_all_ = false;
  std::uint64_t failed_ = 0;
};

}  // namespace clonedev
