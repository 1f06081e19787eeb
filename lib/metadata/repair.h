// Changing metadata that no daemon has attached, on an admin's word.
//
// Everything goes the way of a commit: units that the present tree does not use, a flush, then the
// other superblock slot. So a crash in the middle leaves the metadata as they were.
//
// The superblock before the present one is no help for what is lost: what it leads to was true one
// commit ago, and each of these blocks may have been written since.
//
// Thread: one scheduler.
#pragma once

#include <vector>

#include "metadata/tree_walk.h"

namespace clonedev {

// `superblock` is the one that counts, with other values in its fields but size, units and roots.
// The pages, ascending and disjoint, get `state` for all their blocks; they hold all that is
// damaged, else Errc::damaged and nothing is written.
Task<Result<>> repair_metadata(BlockDevice& device, Superblock superblock,
                               const std::vector<TreeShape::Pages>& pages, BlockState state);

}  // namespace clonedev
