// UNMAP and FORMAT UNIT: ranges that read as zeroes from then on, their space given back.
#pragma once

#include <cstddef>
#include <vector>

#include "steps/steps.h"

namespace clonedev {

// A discard that the destination refuses is tried again as plain zeroing.
class Deallocation final : public Steps {
 public:
  explicit Deallocation(std::vector<Extent> extents) : extents_(std::move(extents)) {}

 private:
  std::optional<Result<>> take(const Result<>& last) override;
  void start(CloneDevice& clone, Completion completion) override;

  const std::vector<Extent> extents_;
  std::size_t started_ = 0;
  bool second_try_ = false;
};

}  // namespace clonedev
