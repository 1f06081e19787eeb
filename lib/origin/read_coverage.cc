#include "origin/read_coverage.h"

#include <algorithm>

namespace clonedev {

void ReadCoverage::add(Extent piece) {
  if (piece.empty()) return;
  if (!pieces_.empty() && pieces_.back().end() == piece.offset) {
    pieces_.back().length += piece.length;
  } else if (pieces_.size() < kMostPieces) {
    pieces_.push_back(piece);
  } else {
    too_many_ = true;
  }
}

bool ReadCoverage::exactly(Extent range) {
  const auto by_offset = [](const Extent& a, const Extent& b) { return a.offset < b.offset; };
  std::sort(pieces_.begin(), pieces_.end(), by_offset);
  std::uint64_t next = range.offset;
  for (const Extent& piece : pieces_) {
    if (piece.offset != next) return false;
    next = piece.end();
  }
  return !too_many_ && next == range.end();
}

}  // namespace clonedev
