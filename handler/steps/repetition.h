// WRITE SAME: one block repeated over a range, or a range of zeroes.
#pragma once

#include <array>
#include <span>

#include "steps/steps.h"
#include "steps/work_buffer.h"

namespace clonedev {

// Zeroes, without any data transfer; gives space back or not.
class ZeroRange final : public OneStep {
 public:
  ZeroRange(Extent extent, Zeroing how) : extent_(extent), how_(how) {}

 private:
  void start(CloneDevice& clone, Completion completion) override {
    clone.zero(extent_, how_, false, completion);
  }

  const Extent extent_;
  const Zeroing how_;
};

// Anything but zeroes, a bounded step at a time.
class Repetition final : public Steps {
 public:
  static constexpr std::size_t kBufferBytes = 256 * 1024;
  static constexpr std::size_t kRepeats = 4;  // A step is at most 1 MiB.

  // Null when memory is short. `block` divides kBufferBytes and the extent's length.
  static std::unique_ptr<Steps> make(std::span<const std::byte> block, Extent extent);

 private:
  std::optional<Result<>> take(const Result<>& last) override;
  void start(CloneDevice& clone, Completion completion) override;

  Repetition(WorkBuffer buffer, std::size_t used, Extent extent);

  const WorkBuffer buffer_;
  std::array<iovec, kRepeats> pieces_{};
  const std::uint64_t step_bytes_;
  Extent rest_;
  bool started_ = false;
};

}  // namespace clonedev
