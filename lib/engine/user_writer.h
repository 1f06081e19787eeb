// What a WRITE does to the destination: data of any alignment, whole blocks at its edges.
//
// A write that covers a block in part needs the rest of it. What only the origin has is brought
// first, holding nothing; then the write claims its place, plans anew under the claim, and makes
// states follow its data (I6, I7).
//
// Units: bytes, but for BlockRange. Thread: one scheduler. Ownership: Parts outlive the writer,
// data and edges the task.
#pragma once

#include <span>

#include "core/io_plan.h"
#include "engine/aligned_bytes.h"
#include "engine/fetcher.h"
#include "io/block_device.h"
#include "io/in_flight.h"
#include "metadata/metadata_store.h"

namespace clonedev {

class UserWriter {
 public:
  struct Parts {
    BlockDevice& destination;
    MetadataStore& metadata;
    InFlight& in_flight;
    Fetcher& fetcher;
  };

  explicit UserWriter(Parts parts) : parts_(parts) {}

  // Brings what a write to `extent` needs of the origin. Errors: Fetcher::get()'s; then nothing has
  // happened.
  Task<Result<>> load_edges(Extent extent, EdgeBlocks& edges, Scheduler::TimePoint deadline);
  // After load_edges(). Takes its place in the line of what touches the same bytes before it
  // suspends. Errc::live_map_full before anything is written; of the destination.
  Task<Result<>> write(Extent extent, std::span<const iovec> data, EdgeBlocks& edges);

  // For who writes whole blocks under a claim of its own: before the data are written, and after.
  Result<StateRoom> room_for(BlockRange blocks);
  void mark_written(const StateRoom& room, BlockRange blocks);

 private:
  Task<Result<>> load_edge(Edge edge, EdgeBlocks::Side side, EdgeBlocks& edges,
                           Scheduler::TimePoint deadline);
  Task<Result<>> write_planned(const WritePlan& plan, Extent extent, std::span<const iovec> data,
                               EdgeBlocks& edges);
  Task<Result<>> write_filled(const WritePlan& plan, Extent extent, std::span<const iovec> data,
                              EdgeBlocks& edges);
  Task<Result<>> fill_edge(Edge edge, EdgeBlocks::Side side, EdgeBlocks& edges);
  const Geometry& geometry() const { return parts_.metadata.map().geometry(); }

  Parts parts_;
};

}  // namespace clonedev
