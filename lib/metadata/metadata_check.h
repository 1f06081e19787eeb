// Everything that can be said of metadata without changing them: what `clonectl check` shows, and
// what dump and repair go by.
//
// Thread: one scheduler; nothing is written.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "clonedev/extent.h"
#include "metadata/superblock.h"
#include "metadata/tree_walk.h"

namespace clonedev {

struct Finding {
  enum class Weight {
    note,    // Worth knowing; nothing is lost by it.
    damage,  // The clone does not open, or makes nothing durable, until somebody acts.
  };
  Weight weight;
  std::string text;  // One line.
};

struct MetadataReport {
  std::optional<Superblock> superblock;  // The one that counts. None: nothing else can be said.
  std::array<std::uint64_t, kBlockStates> blocks{};  // Of what could be read.
  std::uint64_t used_units = 0;
  bool map_sound = false;                    // Every block has a state.
  std::vector<TreeShape::Pages> lost_pages;  // Those without. Ascending, disjoint, not adjacent.
  std::vector<Extent> lost;                  // The same, as bytes of the disk.
  std::vector<Finding> findings;             // Damage first.

  bool damaged() const;
};

// Errors: Errc::metadata_io when not even the superblocks can be read.
Task<Result<MetadataReport>> check_metadata(BlockDevice& device);

// Whether this machine may open it as it is, in words: who has it attached, or had.
std::string attachment_text(const Superblock& superblock, const HostIds& ids);

}  // namespace clonedev
