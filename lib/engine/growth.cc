#include "engine/growth.h"

#include <fmt/format.h>

#include <algorithm>

#include "io/iovecs.h"

namespace clonedev {

Result<> Growth::judge(std::uint64_t size_bytes) const {
  const std::uint64_t now = geometry().size_bytes();
  if (size_bytes < now) {
    return fail(Errc::refused, fmt::format("a clone cannot shrink: it has {} bytes, {} are fewer",
                                           now, size_bytes));
  }
  const std::uint32_t sector = parts_.destination.sector_size();
  if (size_bytes % sector != 0 || size_bytes > kMaxDiskBytes) {
    return fail(Errc::refused, fmt::format("a size of {} bytes is not possible: it must be a "
                                           "multiple of {} and at most {}",
                                           size_bytes, sector, kMaxDiskBytes));
  }
  return parts_.committer.failure();
}

Task<Result<>> Growth::run(std::uint64_t size_bytes, Scheduler::TimePoint give_up,
                           bool deallocate) {
  const auto room = parts_.metadata.make_room_to_grow(size_bytes);
  if (!room) co_return fail(room.error());
  auto zeroed = co_await zero_from_old_end(size_bytes, deallocate);
  if (!zeroed) co_return zeroed;
  const BlockRange last{geometry().blocks() - 1, 1};
  const Extent bytes = geometry().bytes(last);
  InFlight::Entry claim;
  if (bytes.length < kBlockSize) {
    auto brought = co_await bring_from_origin(last, give_up);
    if (!brought) co_return brought;
    claim = co_await parts_.in_flight.acquire(bytes);
    parts_.metadata.forget_copied(last);
  }
  co_return co_await parts_.committer.grow(size_bytes);
}

// To the end of the last block, where commands may write parts of it later; or all that is new,
// when there is no state that could say `zero`.
Task<Result<>> Growth::zero_from_old_end(std::uint64_t size_bytes, bool deallocate) {
  const std::uint64_t old_end = geometry().size_bytes();
  const std::uint64_t block_end = geometry().blocks() * kBlockSize;
  const bool all = parts_.metadata.superblock().complete;
  const std::uint64_t end = all ? size_bytes : std::min(block_end, size_bytes);
  // A disk that has to write its zeroes is not left alone with all of them: nothing ends such a
  // call before its time, not even the death of the process.
  constexpr std::uint64_t kPiece = std::uint64_t{256} << 20;
  for (std::uint64_t at = old_end; at < end; at += kPiece) {
    const Extent piece{at, std::min(kPiece, end - at)};
    auto zeroed = co_await parts_.destination.zero(piece, deallocate);
    if (!zeroed) co_return zeroed;
  }
  co_return Result<>{};
}

// The way of a copy: read holding nothing, claim, look again, write. No block goes back to the
// origin.
Task<Result<>> Growth::bring_from_origin(BlockRange block, Scheduler::TimePoint give_up) {
  const StateMap& map = parts_.metadata.map();
  if (map.at(block.first) != BlockState::origin) co_return Result<>{};
  const Extent extent = geometry().bytes(block);
  auto fetched = co_await parts_.fetcher.get(extent, BufferPool::Use::command, give_up);
  if (!fetched) {
    Error error = fetched.error();
    error.context = "the last block needs the origin for that: " + error.message();
    co_return fail(std::move(error));
  }
  const InFlight::Entry claim = co_await parts_.in_flight.acquire(extent);
  if (map.at(block.first) != BlockState::origin) co_return Result<>{};
  const auto room = parts_.metadata.make_room(block);
  if (!room) co_return fail(live_map_full());
  const iovec data = to_source((*fetched)->bytes(extent));
  const std::span<const iovec> list(&data, 1);
  auto written = co_await parts_.destination.write(extent.offset, list);
  if (written) parts_.metadata.set(*room, block, BlockState::destination, Cause::copied);
  co_return written;
}

}  // namespace clonedev
