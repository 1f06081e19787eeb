// VERIFY and WRITE AND VERIFY: reads a range back, and compares it with what the initiator sent if
// it wants that.
#pragma once

#include <span>

#include "steps/steps.h"
#include "steps/work_buffer.h"

namespace clonedev {

class VerifyRange final : public Steps {
 public:
  struct Wants {
    bool write = false;    // `data` first, durably.
    bool compare = false;  // With `data`.
  };
  // `data` is the command's memory, as long as the extent if it is wanted. Null when memory is
  // short.
  static std::unique_ptr<Steps> make(Extent extent, std::span<const iovec> data, Wants wants);

 private:
  std::optional<Result<>> take(const Result<>& last) override;
  void start(CloneDevice& clone, Completion completion) override;

  VerifyRange(WorkBuffer buffer, Extent extent, std::span<const iovec> data, Wants wants)
      : buffer_(std::move(buffer)), extent_(extent), data_(data), wants_(wants) {}

  Result<> compared(Extent piece) const;

  WorkBuffer buffer_;
  const Extent extent_;
  const std::span<const iovec> data_;
  Wants wants_;
  bool written_ = false;
  Extent piece_;            // Being read; empty before the first.
  std::uint64_t done_ = 0;  // Bytes that were read and are as they should be.
};

}  // namespace clonedev
