#include "engine/user_writer.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <vector>

#include "io/iovecs.h"

namespace clonedev {
namespace {

// Copies into `bytes`, the content of `block`, what `data`, the content of `extent`, has of it.
void overlay(Extent extent, std::span<const iovec> data, Extent block, std::span<std::byte> bytes) {
  const Extent part = intersect(extent, block);
  const std::vector<iovec> from = iov_slice(data, part.offset - extent.offset, part.length);
  iov_copy_out(from, bytes.subspan(part.offset - block.offset, part.length));
}

}  // namespace

// Brings what a partial write needs of the origin, holding nothing; both edges at once, so that
// one deadline serves both and neither finds the origin gone because the copy was completed.
Task<Result<>> UserWriter::load_edges(Extent extent, EdgeBlocks& edges,
                                      Scheduler::TimePoint deadline) {
  const WritePlan plan =
      plan_write(parts_.metadata.map(), extent, parts_.destination.sector_size());
  std::vector<Task<Result<>>> loads;
  if (plan.head && plan.head->rest == BlockState::origin) {
    loads.push_back(load_edge(*plan.head, EdgeBlocks::head, edges, deadline));
  }
  if (plan.tail && plan.tail->rest == BlockState::origin) {
    loads.push_back(load_edge(*plan.tail, EdgeBlocks::tail, edges, deadline));
  }
  Result<> outcome;
  for (Task<Result<>>& load : loads) {
    auto loaded = co_await std::move(load);
    if (!loaded && outcome) outcome = std::move(loaded);
  }
  co_return outcome;
}

Task<Result<>> UserWriter::load_edge(Edge edge, EdgeBlocks::Side side, EdgeBlocks& edges,
                                     Scheduler::TimePoint deadline) {
  const Extent block = geometry().bytes({edge.block, 1});
  auto fetched = co_await parts_.fetcher.get(block, BufferPool::Use::command, deadline);
  if (!fetched) co_return fail(fetched.error());
  std::ranges::copy((*fetched)->bytes(block), edges.side(side).begin());
  edges.set_loaded(side);
  co_return Result<>{};
}

Task<Result<>> UserWriter::write(Extent extent, std::span<const iovec> data, EdgeBlocks& edges) {
  const StateMap& map = parts_.metadata.map();
  const std::uint32_t sector = parts_.destination.sector_size();
  WritePlan plan = plan_write(map, extent, sector);
  while (true) {
    const Extent place = plan.direct() ? extent : plan.aligned;
    const InFlight::Entry entry = co_await parts_.in_flight.acquire(place);
    // The wait may have changed what the edges need, though never back to the origin.
    plan = plan_write(map, extent, sector);
    if (plan.direct() || place == plan.aligned) {
      co_return co_await write_planned(plan, extent, data, edges);
    }
    // An UNMAP was first; filling needs a claim on the whole blocks.
  }
}

Task<Result<>> UserWriter::write_planned(const WritePlan& plan, Extent extent,
                                         std::span<const iovec> data, EdgeBlocks& edges) {
  const BlockRange blocks = geometry().touched(extent);
  parts_.metadata.forget_copied(blocks);
  const auto room = room_for(blocks);
  if (!room) co_return fail(room.error());
  Result<> outcome;
  if (plan.direct()) {
    const std::vector<iovec> list =
        iov_slice(data, 0, extent.length);  // The caller's may hold more.
    outcome = co_await parts_.destination.write(extent.offset, list);
  } else {
    outcome = co_await write_filled(plan, extent, data, edges);
  }
  if (outcome) mark_written(*room, blocks);
  co_return outcome;
}

// The data with whole blocks at its edges, in one write.
Task<Result<>> UserWriter::write_filled(const WritePlan& plan, Extent extent,
                                        std::span<const iovec> data, EdgeBlocks& edges) {
  std::vector<iovec> list;
  Extent middle = extent;
  Extent whole = extent;
  if (plan.head) {
    const Extent block = geometry().bytes({plan.head->block, 1});
    auto filled = co_await fill_edge(*plan.head, EdgeBlocks::head, edges);
    if (!filled) co_return filled;
    overlay(extent, data, block, edges.side(EdgeBlocks::head));
    list.push_back(to_iovec(edges.side(EdgeBlocks::head).first(block.length)));
    whole = {block.offset, std::max(extent.end(), block.end()) - block.offset};
    middle = intersect(extent, {block.end(), whole.end() - block.end()});
  }
  std::byte* tail_bytes = nullptr;
  if (plan.tail) {
    const Extent block = geometry().bytes({plan.tail->block, 1});
    auto filled = co_await fill_edge(*plan.tail, EdgeBlocks::tail, edges);
    if (!filled) co_return filled;
    overlay(extent, data, block, edges.side(EdgeBlocks::tail));
    tail_bytes = edges.side(EdgeBlocks::tail).data();
    middle.length = block.offset - middle.offset;
    whole.length = block.end() - whole.offset;
  }
  const std::vector<iovec> between = iov_slice(data, middle.offset - extent.offset, middle.length);
  list.insert(list.end(), between.begin(), between.end());
  if (tail_bytes) list.push_back({tail_bytes, whole.end() - middle.end()});
  co_return co_await parts_.destination.write(whole.offset, list);
}

// The present content of an edge's block; the origin's was brought before the claim.
Task<Result<>> UserWriter::fill_edge(Edge edge, EdgeBlocks::Side side, EdgeBlocks& edges) {
  const std::span<std::byte> bytes = edges.side(side);
  if (edge.rest == BlockState::origin) {
    assert(edges.loaded(side) && "a block went back to the origin");
  } else if (edge.rest == BlockState::zero) {
    std::memset(bytes.data(), 0, bytes.size());
  } else {
    const Extent block = geometry().bytes({edge.block, 1});
    const iovec whole = to_iovec(bytes.first(block.length));
    const std::span<const iovec> list(&whole, 1);
    co_return co_await parts_.destination.read(block.offset, list);
  }
  co_return Result<>{};
}

// None is needed, and none taken, where the states are there already.
Result<StateRoom> UserWriter::room_for(BlockRange blocks) {
  MetadataStore& metadata = parts_.metadata;
  const bool there = metadata.map().all(blocks, BlockState::destination);
  auto room = metadata.make_room(there ? BlockRange{} : blocks);
  if (!room) return fail(live_map_full());
  return std::move(*room);
}

void UserWriter::mark_written(const StateRoom& room, BlockRange blocks) {
  MetadataStore& metadata = parts_.metadata;
  if (!metadata.map().all(blocks, BlockState::destination)) {
    metadata.set(room, blocks, BlockState::destination, Cause::written);
  }
  metadata.note_written(blocks);
}

}  // namespace clonedev
