// EXTENDED COPY inside of one LUN: reads and writes in turn.
#pragma once

#include <vector>

#include "steps/steps.h"
#include "steps/work_buffer.h"

namespace clonedev {

class Copy final : public Steps {
 public:
  struct Segment {
    Extent source;
    std::uint64_t destination = 0;  // Where it goes, in bytes.
  };
  // Null when memory is short.
  static std::unique_ptr<Steps> make(std::vector<Segment> segments);

 private:
  enum class Doing { nothing, reading, writing };

  std::optional<Result<>> take(const Result<>& last) override;
  void start(CloneDevice& clone, Completion completion) override;

  Copy(WorkBuffer buffer, std::vector<Segment> segments)
      : buffer_(std::move(buffer)), segments_(std::move(segments)) {}

  WorkBuffer buffer_;
  const std::vector<Segment> segments_;
  std::size_t segment_ = 0;
  std::uint64_t done_ = 0;  // Of the segment.
  std::size_t piece_ = 0;   // What the buffer holds, or will.
  Doing doing_ = Doing::nothing;
};

}  // namespace clonedev
