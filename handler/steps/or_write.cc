#include "steps/or_write.h"

#include <algorithm>
#include <new>

#include "scsi/data.h"

namespace clonedev {
namespace {

constexpr std::size_t kPiece = 64 * 1024;  // What compare_and_write() takes.

}  // namespace

std::unique_ptr<Steps> OrWrite::make(Extent extent, std::span<const iovec> data, bool fua) {
  WorkBuffer buffer = WorkBuffer::of(2 * kPiece);
  if (!buffer) return nullptr;
  return std::unique_ptr<Steps>(new (std::nothrow) OrWrite(std::move(buffer), extent, data, fua));
}

std::size_t OrWrite::piece_bytes() const {
  return static_cast<std::size_t>(std::min<std::uint64_t>(rest_.length, kPiece));
}

std::optional<Result<>> OrWrite::take(const Result<>& last) {
  if (doing_ == Doing::replacing && last) {
    note_effect();
    done_ += piece_bytes();
    rest_ = {rest_.offset + piece_bytes(), rest_.length - piece_bytes()};
  } else if (doing_ == Doing::replacing && last.error().code == Errc::miscompare) {
    constexpr unsigned kMostTries = 100;  // Somebody else's write came in between.
    if (++tries_ == kMostTries) return fail(Errc::busy, "other writes kept coming in between");
  } else if (!last) {
    return last;
  }
  if (rest_.empty()) return last;
  return std::nullopt;
}

void OrWrite::start(CloneDevice& clone, Completion completion) {
  const std::size_t length = piece_bytes();
  if (doing_ != Doing::reading) {
    // Doing it once more would change nothing: it need not be remembered across a kill.
    if (doing_ == Doing::replacing) clone.answered(completion.context);
    doing_ = Doing::reading;
    clone.read({rest_.offset, length}, buffer_.pieces(length), completion);
    return;
  }
  doing_ = Doing::replacing;
  const auto old = buffer_.bytes().first(length);
  const auto replacement = buffer_.bytes().subspan(length, length);
  std::copy(old.begin(), old.end(), replacement.begin());
  scsi::or_from(data_, done_, replacement);
  clone.compare_and_write({rest_.offset, length}, buffer_.pieces(2 * length), fua_, completion);
}

}  // namespace clonedev
