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

#include "metadata/page_content.h"
#include "metadata/tree_walk.h"

namespace clonedev {

// What lost pages become: one state for all their blocks, or what a live map says of them. Pages
// are ascending and disjoint.
std::vector<FrozenPage> content_in_state(const std::vector<TreeShape::Pages>& pages,
                                         BlockState state);
std::vector<FrozenPage> content_of(const std::vector<TreeShape::Pages>& pages, StatePages& states,
                                   const Geometry& geometry);

// `superblock` is the one that counts, with other values in its fields but size, units and roots.
// `content` holds all pages that are damaged, ascending, else Errc::damaged and nothing is written.
// What it says of data is durable afterwards: the data have to be before (I1).
Task<Result<>> repair_metadata(BlockDevice& device, Superblock superblock,
                               const std::vector<FrozenPage>& content);

}  // namespace clonedev
