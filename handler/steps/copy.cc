#include "steps/copy.h"

#include <algorithm>
#include <new>

namespace clonedev {

std::unique_ptr<Steps> Copy::make(std::vector<Segment> segments) {
  constexpr std::uint64_t kPiece = 1024 * 1024;
  std::uint64_t longest = 1;
  for (const Segment& segment : segments) longest = std::max(longest, segment.source.length);
  WorkBuffer buffer = WorkBuffer::of(static_cast<std::size_t>(std::min(longest, kPiece)));
  if (!buffer) return nullptr;
  return std::unique_ptr<Steps>(new (std::nothrow) Copy(std::move(buffer), std::move(segments)));
}

std::optional<Result<>> Copy::take(const Result<>& last) {
  if (!last) return last;
  if (doing_ == Doing::reading) return std::nullopt;  // What was read is to be written.
  if (doing_ == Doing::writing) {
    note_effect();
    done_ += piece_;
  }
  while (segment_ < segments_.size() && done_ == segments_[segment_].source.length) {
    ++segment_;
    done_ = 0;
  }
  if (segment_ == segments_.size()) return last;
  return std::nullopt;
}

void Copy::start(CloneDevice& clone, Completion completion) {
  const Segment& segment = segments_[segment_];
  if (doing_ == Doing::reading) {
    doing_ = Doing::writing;
    clone.write({segment.destination + done_, piece_}, buffer_.pieces(piece_), false, completion);
    return;
  }
  doing_ = Doing::reading;
  piece_ = static_cast<std::size_t>(
      std::min<std::uint64_t>(segment.source.length - done_, buffer_.bytes().size()));
  clone.read({segment.source.offset + done_, piece_}, buffer_.pieces(piece_), completion);
}

}  // namespace clonedev
