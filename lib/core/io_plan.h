// What a request means for the blocks it touches, decided from the state map alone.
//
// Pure: no I/O, no waiting. A plan is true at the instant it is made; whoever acts on it either
// holds an entry in the in-flight table or tolerates what may change (see lib/engine).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "clonedev/extent.h"
#include "core/state_map.h"

namespace clonedev {

struct ReadStep {
  Extent extent;      // Bytes of the disk, in order, without gaps.
  BlockState source;  // An authority: never `copied`.
};

// Where the bytes of a READ come from, one step a run of equal authority.
std::vector<ReadStep> plan_read(const StateMap& map, Extent extent);

// A block that a write covers in part and whose other bytes must be supplied with it.
struct Edge {
  std::uint64_t block;
  BlockState rest;  // The authority: where the other bytes come from.
};

struct WritePlan {
  Extent aligned;            // The extent grown to whole blocks: what a write that fills claims.
  std::optional<Edge> head;  // The first block, when its rest is needed.
  std::optional<Edge> tail;  // The last block, when it is another one and its rest is needed.

  // Nothing to fill: the data goes to the destination as it is.
  bool direct() const { return !head && !tail; }
  bool needs_origin() const {
    return (head && head->rest == BlockState::origin) || (tail && tail->rest == BlockState::origin);
  }
};

// `sector_size` is the destination's: where it is 4096 a block can only be written whole.
WritePlan plan_write(const StateMap& map, Extent extent, std::uint32_t sector_size);

// A zeroing or discard: whole blocks change their state, the bytes beside them are written.
struct ZeroPlan {
  BlockRange blocks;
  Extent head;  // Bytes before the blocks, or the whole extent when it covers no block.
  Extent tail;
};

ZeroPlan plan_zero(const Geometry& geometry, Extent extent);

}  // namespace clonedev
