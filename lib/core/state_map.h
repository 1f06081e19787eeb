// The state of every block of the disk: look up, find runs, change ranges, count.
//
// Pure logic over StatePages. A change is all or nothing: pages are allocated before the first
// word changes, so a full live map leaves everything as it was.
//
// Units: blocks of 4 KiB. Thread: one.
// Cost: changes and runs by what they touch; counts are kept, hydrated_regions() looks at pages
// that changed since it was last asked.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "clonedev/status.h"
#include "core/block_state.h"
#include "core/geometry.h"
#include "core/state_pages.h"
#include "core/state_room.h"

namespace clonedev {

struct StateRun {
  BlockRange blocks;
  BlockState state;
};

class StateMap {
 public:
  // Takes over what the pages say, which may have room for a larger disk.
  StateMap(Geometry geometry, StatePages& pages);

  const Geometry& geometry() const { return geometry_; }
  BlockState at(std::uint64_t block) const;
  // The longest run of one state that begins at range.first, cut to the range, which is not empty.
  StateRun run(BlockRange range) const;
  // The first run of that state in the range; empty blocks when there is none.
  BlockRange find(BlockRange range, BlockState state) const;
  // Whether every block of the range has that state.
  bool all(BlockRange range, BlockState state) const;

  // False: no room for a page; nothing changed.
  [[nodiscard]] bool set(BlockRange range, BlockState state);
  // While the room lasts, set() of exactly this range, or of parts of it when it touches no more
  // than two pages, cannot fail. Nothing: no room for a page.
  [[nodiscard]] std::optional<StateRoom> make_room(BlockRange range);

  // The disk is larger now, and the pages say already which state the new blocks have.
  void grow(Geometry larger);

  BlockCounts counts() const;
  // Regions none of whose blocks needs the origin.
  std::uint64_t hydrated_regions() const;

  // The pages that a range of blocks lies on, for whoever tracks changes by page.
  static BlockRange pages_of(BlockRange range);

 private:
  template <class T>
  using PerState = std::array<T, kBlockStates>;
  using PageCounts = PerState<std::uint32_t>;

  void take_over(std::size_t first_page);
  BlockRange page_blocks(std::size_t page) const;
  StateRun run_in_page(std::size_t page, BlockRange range) const;
  void set_in_page(std::size_t page, BlockRange range, BlockState state);
  void collapse(std::size_t page);
  PageCounts count(std::size_t page) const;
  void recount(std::size_t page);
  void take_counts(std::size_t page, const PageCounts& after);
  std::uint64_t hydrated_in_page(std::size_t page) const;

  Geometry geometry_;
  StatePages& pages_;
  std::vector<PageCounts> counts_;
  PerState<std::uint64_t> totals_{};
  mutable std::vector<std::uint32_t> hydrated_;  // Regions a page; kStale: to be counted.
};

}  // namespace clonedev
