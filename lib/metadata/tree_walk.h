// Reads the whole copy-on-write tree in the order of the disk and tells a visitor what is there:
// the one reader, for attach, check, dump and repair alike.
//
// Damage is data: what is wrong below the superblock is told to the visitor with the bytes of the
// disk whose states are lost by it, and the walk goes on behind them unless the visitor ends it.
//
// Cost: each unit in use is read once; memory for some 256 units a level, however large the disk.
// Thread: one scheduler.
#pragma once

#include "clonedev/extent.h"
#include "io/block_device.h"
#include "metadata/disk_format.h"
#include "metadata/superblock.h"
#include "metadata/unit_pool.h"

namespace clonedev {

// The tree's measures: level 0 has an entry for each state page, level k one for each node.
class TreeShape {
 public:
  explicit TreeShape(const Superblock& superblock)
      : geometry_(superblock.size_bytes, superblock.region_size), depth_(superblock.depth) {}

  const Geometry& geometry() const { return geometry_; }
  std::uint32_t depth() const { return depth_; }
  std::size_t entries(std::uint32_t level) const;
  // How many references of the level below a node has.
  std::size_t children(std::uint32_t level, std::size_t index) const;
  struct Pages {
    std::size_t first;
    std::size_t count;
  };
  Pages pages(std::uint32_t level, std::size_t index) const;
  // The blocks that they describe.
  BlockRange blocks(Pages pages) const;

 private:
  Geometry geometry_;
  std::uint32_t depth_;
};

struct TreeDamage {
  TreeShape::Pages pages;  // Whose states are lost.
  std::uint64_t unit;      // Where they lie, or are said to lie.
  bool used_twice;  // Another reference leads there too; which of the two is right is not known.
  Error error;      // Errc::damaged, or Errc::metadata_io when it cannot be read.
};

class TreeVisitor {
 public:
  virtual ~TreeVisitor() = default;

  // A sound reference, before what lies below it. Nothing does when it is uniform. An error here,
  // as in the other two, ends the walk, which returns it.
  virtual Result<> reference(std::uint32_t level, std::size_t index, const PageRef& ref) = 0;
  // The words of a page that is not uniform.
  virtual Result<> page(std::size_t page, const PageWords& words) = 0;
  virtual Result<> damage(const TreeDamage& damage) = 0;
};

// Takes what the tree uses from `pool`, which has all units after the superblocks. Errors: the
// visitor's, and Errc::damaged for references past the end of the disk in the superblock itself.
Task<Result<>> walk_tree(BlockDevice& device, const Superblock& superblock, UnitPool& pool,
                         TreeVisitor& visitor);

}  // namespace clonedev
