// READ (6) and WRITE (6).
#pragma once

#include <span>

#include "steps/steps.h"

namespace clonedev {

class Transfer final : public OneStep {
 public:
  enum class Direction { read, write };
  // `data` is the command's memory.
  Transfer(Direction direction, Extent extent, std::span<const iovec> data)
      : direction_(direction), extent_(extent), data_(data) {}

 private:
  void start(CloneDevice& clone, Completion completion) override {
    if (direction_ == Direction::read) {
      clone.read(extent_, data_, completion);
    } else {
      clone.write(extent_, data_, false, completion);
    }
  }

  const Direction direction_;
  const Extent extent_;
  const std::span<const iovec> data_;
};

}  // namespace clonedev
