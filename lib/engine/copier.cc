#include "engine/copier.h"

#include <algorithm>
#include <cstring>

#include "io/iovecs.h"

namespace clonedev {
namespace {

constexpr std::uint64_t kShortestZeroRun = 16;  // Blocks; shorter runs are written as they are.

bool is_zero(std::span<const std::byte> bytes) {
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

// How many of the first blocks of `data` are all zero, or are not: the longest run of one kind.
std::uint64_t leading_blocks(std::span<const std::byte> data, bool zero) {
  std::uint64_t count = 0;
  while (!data.empty()) {
    const std::size_t length = std::min<std::size_t>(kBlockSize, data.size());
    if (is_zero(data.first(length)) != zero) break;
    data = data.subspan(length);
    ++count;
  }
  return count;
}

}  // namespace

Task<Result<>> Copier::keep(BlockRange blocks, std::span<const std::byte> data, Kept& kept) {
  const Extent extent = map().geometry().bytes(blocks);
  const InFlight::Entry claim = co_await parts_.in_flight.acquire(extent);
  std::vector<Task<Result<>>> writes;
  BlockRange left = blocks;
  while (!left.empty()) {
    const StateRun run = map().run(left);
    if (run.state == BlockState::origin) {
      const std::size_t skip = (run.blocks.first - blocks.first) * kBlockSize;
      const std::size_t length = map().geometry().bytes(run.blocks).length;
      writes.push_back(write_run(run.blocks, data.subspan(skip, length), kept));
    }
    left = {run.blocks.end(), left.end() - run.blocks.end()};
  }
  Result<> outcome;
  for (Task<Result<>>& write : writes) {
    auto written = co_await std::move(write);
    if (!written && outcome) outcome = std::move(written);
  }
  co_return outcome;
}

Task<Result<>> Copier::write_run(BlockRange blocks, std::span<const std::byte> data, Kept& kept) {
  const Geometry& geometry = map().geometry();
  const auto room = parts_.metadata.make_room(blocks);
  if (!room) co_return fail(live_map_full());
  while (!blocks.empty()) {
    const std::uint64_t zero = leading_blocks(data, true);
    std::uint64_t count = zero;
    if (zero < kShortestZeroRun && zero < blocks.count) {
      // Data, together with the short zero runs around it.
      count += leading_blocks(data.subspan(zero * kBlockSize), false);
    }
    const bool as_zero = count == zero && zero >= kShortestZeroRun;
    const BlockRange part{blocks.first, count};
    const Extent extent = geometry.bytes(part);
    if (!as_zero) {
      const iovec bytes = to_source(data.first(extent.length));
      const std::span<const iovec> list(&bytes, 1);
      auto written = co_await parts_.destination.write(extent.offset, list);
      if (!written) co_return written;
      kept.written = true;
    }
    const BlockState state = as_zero ? BlockState::zero : BlockState::copied;
    parts_.metadata.set(*room, part, state, Cause::copied);
    kept.bytes += extent.length;
    data = data.subspan(extent.length);
    blocks = {part.end(), blocks.end() - part.end()};
  }
  co_return Result<>{};
}

}  // namespace clonedev
