// Where things lie on the metadata device, as arithmetic: units, pages, nodes, depth.
// Specified in docs/metadata-format.md. Pure. Units in the names.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/geometry.h"
#include "core/state_pages.h"

namespace clonedev {

inline constexpr std::size_t kUnitBytes = 4096;       // Every metadata I/O is whole units.
inline constexpr std::uint64_t kSuperblockSlots = 2;  // Units 0 and 1.
inline constexpr std::uint64_t kFirstPageUnit = 16;   // 2..15 are reserved, and zero.
inline constexpr std::size_t kRootRefs = 128;
inline constexpr std::size_t kNodeRefs = 256;
inline constexpr std::uint32_t kMaxDepth = 2;

// What one state page describes: 64 MiB.
inline constexpr std::uint64_t kPageCoversBytes = StatePages::kBlocksPerPage * kBlockSize;
inline constexpr std::uint64_t kMaxDiskBytes =
    kRootRefs * kNodeRefs * kNodeRefs * kPageCoversBytes;  // 512 TiB

constexpr std::uint64_t pages_for(std::uint64_t size_bytes) {
  return Geometry::divide_up(size_bytes, kPageCoversBytes);
}

// Levels of nodes between the superblock and the state pages.
std::uint32_t depth_for(std::uint64_t pages);
// Nodes of a tree in which nothing is uniform.
std::uint64_t nodes_for(std::uint64_t pages);
// Units that must be there for any commit to be possible.
std::uint64_t least_units_for(std::uint64_t size_bytes);
// Units to reserve: with slack, so that a usual commit goes in one step.
std::uint64_t units_for(std::uint64_t size_bytes);

}  // namespace clonedev
