// Which bytes of a read a server has really sent. It may answer in pieces and in any order; one
// that sends a piece twice and leaves another one out must not pass for a success.
//
// Units: bytes. Thread: any, one at a time.
#pragma once

#include <cstddef>
#include <vector>

#include "clonedev/extent.h"

namespace clonedev {

class ReadCoverage {
 public:
  void add(Extent piece);
  // Every byte of the range came exactly once, and nothing else came.
  bool exactly(Extent range);

 private:
  static constexpr std::size_t kMostPieces = 65536;

  std::vector<Extent> pieces_;
  bool too_many_ = false;
};

}  // namespace clonedev
