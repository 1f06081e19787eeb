#include "steps/lba_status.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "scsi/cdb.h"
#include "scsi/data.h"

namespace clonedev {
namespace {

constexpr std::size_t kHead = 8;
constexpr std::size_t kDescriptor = 16;

}  // namespace

std::optional<Result<>> LbaStatus::take(const Result<>& last) {
  if (!std::exchange(started_, true)) return std::nullopt;
  if (last) answer();
  return last;
}

void LbaStatus::start(CloneDevice& clone, Completion completion) {
  // One at least, so that the head tells of it.
  const std::size_t room = allocation_ < kHead ? 0 : (allocation_ - kHead) / kDescriptor;
  const std::size_t wanted = std::clamp<std::size_t>(room, 1, runs_.size());
  clone.provisioning(from_, std::span(runs_).first(wanted), found_, completion);
}

void LbaStatus::answer() const {
  enum Provisioning : std::uint8_t { kMapped, kDeallocated };
  std::vector<std::uint8_t> page(kHead + found_ * kDescriptor);
  // PARAMETER DATA LENGTH counts what follows it.
  scsi::put_big_endian(page.data(), page.size() - 4, 4);
  for (std::size_t i = 0; i < found_; ++i) {
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
    const ProvisionedRun& run = runs_[i];
    std::uint8_t* const out = &page[kHead + i * kDescriptor];
    scsi::put_big_endian(out, run.extent.offset / block_bytes_, 8);
    scsi::put_big_endian(out + 8, std::min(run.extent.length / block_bytes_, kMost), 4);
    out[12] = run.deallocated ? kDeallocated : kMapped;
  }
  scsi::answer(page, allocation_, data_);
}

}  // namespace clonedev
