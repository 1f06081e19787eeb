#include "origin/piece_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace clonedev {

Extent PieceReader::widened(Extent extent, std::uint64_t unit) {
  const std::uint64_t begin = extent.offset & ~(unit - 1);
  const std::uint64_t end = (extent.end() + unit - 1) & ~(unit - 1);
  return {begin, end - begin};
}

Task<Result<OriginBytes>> PieceReader::read_pieces(std::uint64_t offset, std::span<std::byte> room,
                                                   Limits limits) {
  const Extent wanted{offset, room.size()};
  const Extent whole = widened(wanted, limits.unit);
  std::vector<std::byte> bounce(whole == wanted ? 0 : whole.length);
  const std::span<std::byte> target = whole == wanted ? room : std::span(bounce);
  auto done = co_await read_units(whole.offset, target, limits.most);
  if (!done) co_return fail(done.error());
  if (whole != wanted) std::copy_n(&target[offset - whole.offset], room.size(), room.data());
  co_return OriginBytes{room};
}

Task<Result<>> PieceReader::read_units(std::uint64_t offset, std::span<std::byte> buffer,
                                       std::size_t most) {
  if (buffer.size() <= most) co_return co_await read_piece(offset, buffer);
  std::vector<Task<Result<>>> pieces;
  for (std::size_t at = 0; at < buffer.size(); at += most) {
    const std::size_t length = std::min(most, buffer.size() - at);
    pieces.push_back(read_piece(offset + at, buffer.subspan(at, length)));
  }
  Result<> outcome;
  for (auto& piece : pieces) {  // All of them, also after an error: they write to the buffer.
    auto done = co_await piece;
    if (!done && outcome) outcome = std::move(done);
  }
  co_return outcome;
}

}  // namespace clonedev
