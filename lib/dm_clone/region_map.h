// Which regions the kernel's dm-clone had hydrated, read from its own metadata device.
//
// Reads what is committed: suspend the dm-clone first (it commits then) and remove it, so that
// nothing writes meanwhile. Everything on the way is checked: checksums, places, counts, order;
// what is not as the kernel writes it is Errc::damaged, and nothing is guessed.
//
// Thread: one scheduler. Memory: a bit a region.
#pragma once

#include <cstdint>
#include <vector>

#include "core/geometry.h"
#include "io/block_device.h"

namespace clonedev::dm_clone {

struct RegionMap {
  Geometry geometry;
  std::vector<std::uint64_t> words;  // Bit i % 64 of word i / 64: region i is hydrated.

  bool hydrated(std::uint64_t region) const { return words[region / 64] >> region % 64 & 1; }
  // The longest run of regions that are alike and begin with this one, as blocks of the disk.
  BlockRange run(std::uint64_t first_region) const;
  std::uint64_t hydrated_regions() const;
};

// Errc::foreign: these are no metadata of dm-clone. Errc::damaged, Errc::metadata_io.
Task<Result<RegionMap>> read_region_map(BlockDevice& device);

}  // namespace clonedev::dm_clone
