// Builds a whole new tree on an empty device from the states of the blocks in the order of the
// disk, in memory for one unit a level and what is not yet written.
//
// Thread: one scheduler.
#pragma once

#include <memory>
#include <vector>

#include "core/state_map.h"
#include "metadata/tree_walk.h"
#include "metadata/unit_io.h"

namespace clonedev {

class TreeBuilder {
 public:
  // For a disk of that size and depth; its units are taken from kFirstPageUnit on.
  TreeBuilder(BlockDevice& device, const Superblock& superblock);

  // The next run: runs leave no gap. Tells when write() has to come before the next one.
  [[nodiscard]] bool add(const StateRun& run);
  // Writes what is ready.
  Task<Result<>> write();
  // After the last run: writes and flushes all that is left.
  Task<Result<>> finish();
  // Then: what the superblock has to refer to.
  const std::array<PageRef, kRootRefs>& roots() const { return roots_; }

 private:
  void add_in_page(BlockRange places, BlockState state);
  // The words of the page that was filled, as what refers to them.
  PageRef take_words();
  void end_page(PageRef page);
  void add_ref(std::uint32_t level, PageRef ref);
  void end_node(std::uint32_t level);
  PageRef place(std::unique_ptr<Unit> unit);

  BlockDevice& device_;
  TreeShape shape_;
  std::uint64_t next_block_ = 0;
  PageWords words_{};
  std::vector<std::vector<PageRef>> refs_;  // A level: of the node that is being filled.
  std::array<PageRef, kRootRefs> roots_{};
  std::uint64_t next_unit_ = kFirstPageUnit;
  std::vector<std::unique_ptr<Unit>> ready_;  // For the units before next_unit_.
};

}  // namespace clonedev
