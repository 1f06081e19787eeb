#include "steps/deallocation.h"

namespace clonedev {
namespace {

bool may_be_the_discard(const Error& error) { return error.code == Errc::destination_write; }

}  // namespace

std::optional<Result<>> Deallocation::take(const Result<>& last) {
  if (!last) {
    if (second_try_ || !may_be_the_discard(last.error())) return last;
    second_try_ = true;
    return std::nullopt;
  }
  if (started_ > 0) note_effect();
  second_try_ = false;
  if (started_ == extents_.size()) return last;
  return std::nullopt;
}

void Deallocation::start(CloneDevice& clone, Completion completion) {
  if (second_try_) {
    clone.zero(extents_[started_ - 1], Zeroing::keep, false, completion);
  } else {
    const Extent extent = extents_[started_++];
    clone.zero(extent, Zeroing::deallocate, false, completion);
  }
}

}  // namespace clonedev
