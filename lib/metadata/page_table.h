// The copy-on-write hash tree from the superblock's root references to the state pages.
//
// Level 0 holds one reference for each state page, level k one for each node above 256 of level
// k - 1; the topmost level is what the superblock embeds. A commit step is planned (new units are
// taken, nothing that is reachable is touched), written, and applied once its superblock is
// durable; only then the units it replaced are free.
//
// Pure but for load(). Thread: one scheduler.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "io/block_device.h"
#include "metadata/page_content.h"
#include "metadata/superblock.h"
#include "metadata/tree_walk.h"
#include "metadata/unit_io.h"
#include "metadata/unit_pool.h"

namespace clonedev {

class PageTable {
 public:
  // What to write for some of the frozen pages, and what to put into the superblock then.
  struct Step {
    std::size_t pages = 0;  // So many of the frozen pages are in this step.
    std::vector<std::unique_ptr<Unit>> buffers;
    std::vector<UnitTransfer> writes;  // Ascending.
    std::vector<std::uint64_t> replaced;
    struct Change {
      std::uint32_t level;
      std::size_t index;
      PageRef ref;
    };
    std::vector<Change> changes;
    std::array<PageRef, kRootRefs> roots;
  };

  // Gets the words of each page that is not uniform.
  using PageSink = std::function<Result<>(std::size_t page, const PageWords& words)>;

  // Reads and checks the whole tree. The first damage is the end of it: Errc::damaged names the
  // bytes of the disk that are concerned.
  static Task<Result<PageTable>> load(BlockDevice& device, const Superblock& superblock,
                                      const PageSink& sink);
  // The same, but `visitor` decides. Pages that it lets pass as damaged are `origin` in the table
  // as long as no step gives them a content.
  static Task<Result<PageTable>> load(BlockDevice& device, const Superblock& superblock,
                                      TreeVisitor& visitor);

  // The table of the same clone with a larger disk: `larger` has its size, units and depth, the new
  // pages are `kind`. Nothing of it is on the device before a step has planned the last page that
  // the disk has now, whose nodes get more references, and its superblock is durable.
  PageTable grown(const Superblock& larger, PageKind kind) const;

  PageKind kind(std::size_t page) const { return levels_[0][page].kind(); }
  std::uint64_t used_units() const { return pool_.used(); }

  // As many of the frozen pages, from the first on, as the free units allow; all of them usually.
  // pages == 0 when not even one fits.
  Step plan(std::span<const FrozenPage> frozen);
  void apply(const Step& step);
  // The step failed. Its superblock may be on the disk nevertheless, and lead to these units: no
  // other step may be planned until some later superblock is durable.
  void abandon(const Step& step);

 private:
  using Level = std::vector<PageRef>;

  class Loader;

  explicit PageTable(const Superblock& superblock);

  void place(std::uint32_t level, std::size_t index, const PageRef& ref);
  std::uint64_t units_needed(const FrozenPage& page, std::span<const std::size_t> last) const;
  void change(Step& step, std::uint32_t level, std::size_t index, PageRef ref);
  void add_unit(Step& step, std::uint32_t level, std::size_t index, std::unique_ptr<Unit> unit);
  void plan_nodes(Step& step, std::uint32_t level, std::span<const Step::Change> below);

  TreeShape shape_;
  std::vector<Level> levels_;
  UnitPool pool_;
};

}  // namespace clonedev
