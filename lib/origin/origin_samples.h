// A fingerprint for origins that have no name of their own: the digest of a few blocks (I11).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "origin/origin.h"

namespace clonedev {

// At most 16 disjoint extents of at most 4 KiB, ascending, each beginning at a multiple of 4 KiB,
// spread evenly, the first and the last block of the disk among them.
std::vector<Extent> sample_extents(std::uint64_t size);

// 32 hexadecimal digits (XXH3, 128 bits) over sample_extents(origin.size()), read at once.
// Thread: the scheduler's. Errors: those of Origin::read.
Task<Result<std::string>> sample_digest(Origin& origin);

// A hash (XXH3, 64 bits) of each extent, at most 4 KiB long and beginning at a multiple of that,
// all read at once; none where the origin answers with an error. Other errors: those of
// Origin::read. `extents` outlives the task.
using BlockHashes = std::vector<std::optional<std::uint64_t>>;
Task<Result<BlockHashes>> block_hashes(Origin& origin, const std::vector<Extent>& extents);

}  // namespace clonedev
