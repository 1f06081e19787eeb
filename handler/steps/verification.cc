#include "steps/verification.h"

#include <algorithm>
#include <new>
#include <utility>

#include "scsi/data.h"

namespace clonedev {

std::unique_ptr<Steps> VerifyRange::make(Extent extent, std::span<const iovec> data, Wants wants) {
  constexpr std::uint64_t kPiece = 1024 * 1024;
  WorkBuffer buffer =
      WorkBuffer::of(static_cast<std::size_t>(std::clamp<std::uint64_t>(extent.length, 1, kPiece)));
  if (!buffer) return nullptr;
  return std::unique_ptr<Steps>(new (std::nothrow)
                                    VerifyRange(std::move(buffer), extent, data, wants));
}

std::optional<Result<>> VerifyRange::take(const Result<>& last) {
  if (!last) return last;
  if (written_) note_effect();
  if (wants_.compare && !piece_.empty()) {
    if (Result<> same = compared(piece_); !same) return same;
  }
  done_ += piece_.length;
  if (done_ == extent_.length) return Result<>{};
  return std::nullopt;
}

void VerifyRange::start(CloneDevice& clone, Completion completion) {
  if (std::exchange(wants_.write, false)) {
    written_ = true;
    clone.write(extent_, data_, true, completion);
    return;
  }
  piece_ = {extent_.offset + done_,
            std::min<std::uint64_t>(extent_.length - done_, buffer_.bytes().size())};
  clone.read(piece_, buffer_.pieces(static_cast<std::size_t>(piece_.length)), completion);
}

Result<> VerifyRange::compared(Extent piece) const {
  const auto read = buffer_.bytes().first(static_cast<std::size_t>(piece.length));
  const std::size_t same = scsi::first_difference(data_, static_cast<std::size_t>(done_), read);
  if (same == read.size()) return {};
  Error different{make_error_code(Errc::miscompare), "the data differ"};
  different.detail = done_ + same;
  return tl::unexpected(different);
}

}  // namespace clonedev
