#include "steps/repetition.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace clonedev {

std::unique_ptr<Steps> Repetition::make(std::span<const std::byte> block, Extent extent) {
  WorkBuffer buffer = WorkBuffer::of(kBufferBytes);
  if (!buffer) return nullptr;
  const auto used = static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, kBufferBytes));
  for (std::size_t at = 0; at < used; at += block.size()) {
    std::memcpy(buffer.bytes().data() + at, block.data(), block.size());
  }
  return std::unique_ptr<Steps>(new (std::nothrow) Repetition(std::move(buffer), used, extent));
}

Repetition::Repetition(WorkBuffer buffer, std::size_t used, Extent extent)
    : buffer_(std::move(buffer)), step_bytes_(used * kRepeats), rest_(extent) {
  pieces_.fill(iovec{buffer_.bytes().data(), used});
}

std::optional<Result<>> Repetition::take(const Result<>& last) {
  if (!last) return last;
  if (started_) note_effect();
  if (rest_.empty()) return last;
  return std::nullopt;
}

void Repetition::start(CloneDevice& clone, Completion completion) {
  started_ = true;
  const Extent step{rest_.offset, std::min(rest_.length, step_bytes_)};
  rest_ = Extent{step.end(), rest_.length - step.length};
  clone.write(step, pieces_, false, completion);
}

}  // namespace clonedev
