// GET LBA STATUS: which blocks are provisioned, from the clone's map (SBC-4 5.8).
#pragma once

#include <array>
#include <span>

#include "steps/steps.h"

namespace clonedev {

class LbaStatus final : public Steps {
 public:
  // `from` begins with the first block asked for. `data` is the command's memory.
  LbaStatus(Extent from, std::uint32_t block_bytes, std::size_t allocation,
            std::span<const iovec> data)
      : from_(from), block_bytes_(block_bytes), allocation_(allocation), data_(data) {}

 private:
  std::optional<Result<>> take(const Result<>& last) override;
  void start(CloneDevice& clone, Completion completion) override;

  void answer() const;

  const Extent from_;
  const std::uint32_t block_bytes_;
  const std::size_t allocation_;
  const std::span<const iovec> data_;
  std::array<ProvisionedRun, 64> runs_{};
  std::size_t found_ = 0;
  bool started_ = false;
};

}  // namespace clonedev
