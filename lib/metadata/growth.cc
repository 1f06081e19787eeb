// MetadataStore::grow(): a larger disk in one superblock step.
//
//   1 a commit: nothing that is not durable is left of what the next superblock builds on
//   2 the page with the old end, extended, and the nodes above it go to free units; flush
//   3 the superblock with the new size, units, depth and roots; flush     durable: old or new
//   4 in core and in the live map, with no step of anybody else in between
//
// A process that dies between 3 and 4 leaves a live map that speaks of fewer blocks than the
// superblock: its successor adds them, with the same state (LiveMap::adopt()).
#include <fmt/format.h>

#include <algorithm>

#include "metadata/metadata_store.h"

namespace clonedev {
namespace {

Superblock larger_one(Superblock superblock, std::uint64_t size_bytes) {
  superblock.size_bytes = size_bytes;
  superblock.units = std::max(superblock.units, units_for(size_bytes));
  superblock.depth = depth_for(pages_for(size_bytes));
  return superblock;
}

}  // namespace

Result<StateRoom> MetadataStore::make_room_to_grow(std::uint64_t size_bytes) {
  const std::uint64_t needed = larger_one(superblock_, size_bytes).units * kUnitBytes;
  if (device_.size() < needed) {
    return fail(Errc::no_space, fmt::format("the metadata need {} bytes for that, there are {}",
                                            needed, device_.size()));
  }
  const Geometry larger(size_bytes, superblock_.region_size);
  if (auto longer = live_->lengthen(larger.blocks()); !longer) return fail(longer.error());
  auto room = map_.make_room({map_.geometry().blocks() - 1, 1});
  if (!room) return fail(live_map_full());
  return std::move(*room);
}

Task<Result<>> MetadataStore::grow(BlockDevice& destination, std::uint64_t size_bytes) {
  auto committed = co_await commit(destination);
  if (!committed) co_return committed;
  Superblock next = larger_one(superblock_, size_bytes);
  const BlockState state = next.state_of_new_blocks();
  const Geometry larger(next.size_bytes, next.region_size);
  const std::size_t last = pages_for(superblock_.size_bytes) - 1;
  std::vector<FrozenPage> frozen;
  frozen.push_back({last, durable_.durable(last)});
  extend(frozen[0].content, blocks_in_page(map_.geometry(), last), blocks_in_page(larger, last),
         state);

  PageTable table = table_.grown(next, uniform(state));
  PageTable::Step step = table.plan(frozen);
  if (step.pages == 0) {
    co_return give_up(Error{make_error_code(Errc::no_space),
                            "metadata: no unit is free to grow: its table is damaged"});
  }
  auto written = co_await write_units(device_, step.writes);
  // The length of the file, too, is durable before a superblock counts on it.
  if (written) written = co_await flush_units(device_);
  if (!written) co_return give_up(written.error());
  next.roots = step.roots;
  auto outcome = co_await put_superblock(std::move(next));
  if (!outcome) co_return give_up(outcome.error());

  table.apply(step);
  table_ = std::move(table);
  durable_.grow(larger, state);
  live_->grow(larger.blocks(), state);
  map_.grow(larger);
  co_return outcome;
}

}  // namespace clonedev
