#include "metadata/tree_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "metadata/page_content.h"
#include "metadata/unit_io.h"

namespace clonedev {

std::size_t TreeShape::entries(std::uint32_t level) const {
  std::size_t count = pages_for(geometry_.size_bytes());
  for (; level > 0; --level) count = Geometry::divide_up(count, kNodeRefs);
  return count;
}

std::size_t TreeShape::children(std::uint32_t level, std::size_t index) const {
  return std::min(kNodeRefs, entries(level - 1) - index * kNodeRefs);
}

TreeShape::Pages TreeShape::pages(std::uint32_t level, std::size_t index) const {
  std::size_t covers = 1;
  for (; level > 0; --level) covers *= kNodeRefs;
  const std::size_t first = index * covers;
  return {first, std::min(covers, entries(0) - first)};
}

BlockRange TreeShape::blocks(Pages pages) const {
  const std::uint64_t first = pages.first * StatePages::kBlocksPerPage;
  return {first, std::min(pages.count * StatePages::kBlocksPerPage, geometry_.blocks() - first)};
}

namespace {

bool all_unused(std::span<const PageRef> refs) {
  return std::all_of(refs.begin(), refs.end(), [](const PageRef& ref) { return ref == PageRef{}; });
}

// Neighbouring references of one level and what they lead to, read together.
struct Brood {
  std::uint32_t level;
  std::size_t first;
  std::span<const PageRef> refs;
  struct Child {
    const char* fault = nullptr;  // Of the reference itself.
    bool used_twice = false;
    Unit* unit = nullptr;  // Null for what is uniform.
    Result<> read;
  };
  std::vector<Child> children;
  std::vector<Unit> units;
};

class Walk {
 public:
  Walk(BlockDevice& device, const TreeShape& shape, UnitPool& pool, TreeVisitor& visitor)
      : device_(device), shape_(shape), pool_(pool), visitor_(visitor) {}

  Task<Result<>> visit(std::uint32_t level, std::size_t first, std::span<const PageRef> refs) {
    Brood brood{level, first, refs, {}, {}};
    judge(brood);
    co_await load(brood);
    for (std::size_t i = 0; i < refs.size(); ++i) {
      if (auto one = co_await visit_child(brood, i); !one) co_return one;
    }
    co_return Result<>{};
  }

 private:
  void judge(Brood& brood) {
    brood.children.resize(brood.refs.size());
    for (std::size_t i = 0; i < brood.refs.size(); ++i) {
      const PageRef& ref = brood.refs[i];
      Brood::Child& child = brood.children[i];
      if (ref.is_uniform()) {
        if (ref.checksum != 0) child.fault = "has a checksum without a page";
      } else if (!pool_.take(ref.where)) {
        child.fault = "lies outside of the metadata or where something else lies";
        child.used_twice = pool_.contains(ref.where);
      }
    }
  }

  Task<> load(Brood& brood) {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < brood.refs.size(); ++i) {
      if (!brood.children[i].fault && !brood.refs[i].is_uniform()) order.push_back(i);
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return brood.refs[a].where < brood.refs[b].where;
    });
    brood.units.resize(order.size());
    std::vector<UnitTransfer> reads;
    for (const std::size_t i : order) {
      Brood::Child& child = brood.children[i];
      child.unit = &brood.units[reads.size()];
      reads.push_back({brood.refs[i].where, child.unit});
    }
    auto together = co_await read_units(device_, reads);
    if (together) co_return;
    // One that cannot be read does not take the others with it.
    for (std::size_t n = 0; n < order.size(); ++n) {
      const auto alone = std::span<const UnitTransfer>(reads).subspan(n, 1);
      brood.children[order[n]].read = co_await read_units(device_, alone);
    }
  }

  Task<Result<>> visit_child(const Brood& brood, std::size_t i) {
    const PageRef& ref = brood.refs[i];
    const Brood::Child& child = brood.children[i];
    const std::size_t index = brood.first + i;
    if (child.fault) co_return visitor_.damage(damage(brood, i, child.fault));
    if (!child.read) {
      const std::string why = "cannot be read (" + child.read.error().message() + ")";
      co_return visitor_.damage(damage(brood, i, why, Errc::metadata_io));
    }
    if (child.unit && checksum_of(child.unit->bytes, ref.where) != ref.checksum) {
      co_return visitor_.damage(damage(brood, i, "has a wrong checksum"));
    }
    if (!child.unit) co_return visitor_.reference(brood.level, index, ref);
    if (brood.level == 0) co_return visit_page(brood, i);
    std::array<PageRef, kNodeRefs> refs;
    unpack(*child.unit, refs);
    const std::size_t count = shape_.children(brood.level, index);
    if (!all_unused(std::span(refs).subspan(count))) {
      co_return visitor_.damage(damage(brood, i, "refers to pages past the end of the disk"));
    }
    if (auto told = visitor_.reference(brood.level, index, ref); !told) co_return told;
    const std::span<const PageRef> below = std::span(refs).first(count);
    co_return co_await visit(brood.level - 1, index * kNodeRefs, below);
  }

  Result<> visit_page(const Brood& brood, std::size_t i) {
    const std::size_t page = brood.first + i;
    PageWords words;
    unpack(*brood.children[i].unit, words);
    if (const char* fault = fault_of(words, blocks_in_page(shape_.geometry(), page))) {
      return visitor_.damage(damage(brood, i, fault));
    }
    if (auto told = visitor_.reference(0, page, brood.refs[i]); !told) return told;
    return visitor_.page(page, words);
  }

  TreeDamage damage(const Brood& brood, std::size_t i, const std::string& what,
                    Errc code = Errc::damaged) const {
    const TreeShape::Pages pages = shape_.pages(brood.level, brood.first + i);
    const Extent disk = shape_.geometry().bytes(shape_.blocks(pages));
    const std::uint64_t unit = brood.refs[i].where;
    std::string text = fmt::format(
        "metadata: the {} for bytes {}..{} of the disk (unit {}) {}: the metadata are damaged: "
        "clonectl check META lists all of it, clonectl repair META says what can be done",
        brood.level == 0 ? "state page" : "page table node", disk.offset, disk.end() - 1, unit,
        what);
    return {pages, unit, brood.children[i].used_twice, {make_error_code(code), std::move(text)}};
  }

  BlockDevice& device_;
  const TreeShape& shape_;
  UnitPool& pool_;
  TreeVisitor& visitor_;
};

}  // namespace

Task<Result<>> walk_tree(BlockDevice& device, const Superblock& superblock, UnitPool& pool,
                         TreeVisitor& visitor) {
  const TreeShape shape(superblock);
  const std::span<const PageRef> roots(superblock.roots);
  const std::size_t used = shape.entries(shape.depth());
  if (!all_unused(roots.subspan(used))) {
    co_return fail(Errc::damaged,
                   "metadata: the superblock refers to pages past the end of the disk: restore "
                   "the metadata from a dump or a backup");
  }
  Walk walk(device, shape, pool, visitor);
  const std::span<const PageRef> top = roots.first(used);
  co_return co_await walk.visit(shape.depth(), 0, top);
}

}  // namespace clonedev
