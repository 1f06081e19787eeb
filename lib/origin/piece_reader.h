// Reads a range of any length and place from a server that takes only whole units, and only so much
// of them at a time: all pieces at once.
//
// Units: bytes. Thread: the scheduler's. Ownership: as Origin::read().
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "origin/origin.h"

namespace clonedev {

class PieceReader {
 public:
  struct Limits {
    std::uint64_t unit = 1;  // A power of two; the server's size is a multiple of it.
    std::size_t most = 0;    // Of one piece; a multiple of the unit.
  };
  // The smallest range of whole units around it.
  static Extent widened(Extent extent, std::uint64_t unit);

 protected:
  ~PieceReader() = default;

  // Whole units, at most `most`. Called anew while others are under way.
  virtual Task<Result<>> read_piece(std::uint64_t offset, std::span<std::byte> buffer) = 0;
  // Into the room. The first error of the pieces, when all of them have ended.
  Task<Result<OriginBytes>> read_pieces(std::uint64_t offset, std::span<std::byte> room,
                                        Limits limits);

 private:
  Task<Result<>> read_units(std::uint64_t offset, std::span<std::byte> buffer, std::size_t most);
};

}  // namespace clonedev
