// ORWRITE: sets bits. What was read is replaced only if it is still there, so that no other write
// is undone: 64 KiB at a time.
#pragma once

#include <span>

#include "steps/steps.h"
#include "steps/work_buffer.h"

namespace clonedev {

class OrWrite final : public Steps {
 public:
  // `data` is the command's memory, as long as the extent. Null when memory is short.
  static std::unique_ptr<Steps> make(Extent extent, std::span<const iovec> data, bool fua);

 private:
  std::optional<Result<>> take(const Result<>& last) override;
  void start(CloneDevice& clone, Completion completion) override;

  enum class Doing { nothing, reading, replacing };

  OrWrite(WorkBuffer buffer, Extent extent, std::span<const iovec> data, bool fua)
      : buffer_(std::move(buffer)), rest_(extent), data_(data), fua_(fua) {}

  std::size_t piece_bytes() const;

  WorkBuffer buffer_;  // What is there, then what shall be there.
  Extent rest_;        // Begins with the piece at hand.
  const std::span<const iovec> data_;
  const bool fua_;
  std::size_t done_ = 0;  // Bytes before it.
  Doing doing_ = Doing::nothing;
  unsigned tries_ = 0;
};

}  // namespace clonedev
