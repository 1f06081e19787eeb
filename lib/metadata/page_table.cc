#include "metadata/page_table.h"

#include <algorithm>
#include <cassert>

namespace clonedev {

PageTable::PageTable(const Superblock& superblock)
    : shape_(superblock), pool_(kFirstPageUnit, superblock.units) {
  for (std::uint32_t level = 0; level <= superblock.depth; ++level) {
    levels_.emplace_back(shape_.entries(level));
  }
}

PageTable PageTable::grown(const Superblock& larger, PageKind kind) const {
  PageTable table(larger);
  table.pool_ = pool_.extended(larger.units);
  for (std::size_t level = 0; level < table.levels_.size(); ++level) {
    Level& refs = table.levels_[level];
    std::fill(refs.begin(), refs.end(), PageRef::uniform(kind));
    if (level < levels_.size())
      std::copy(levels_[level].begin(), levels_[level].end(), refs.begin());
  }
  return table;
}

// What this page adds to a step, given the nodes that the page before it had changed already.
std::uint64_t PageTable::units_needed(const FrozenPage& page,
                                      std::span<const std::size_t> last) const {
  std::uint64_t needed = page.content.kind == PageKind::mixed;
  std::size_t node = page.page;
  for (std::uint32_t level = 1; level < levels_.size(); ++level) {
    node /= kNodeRefs;
    needed += node != last[level];
  }
  return needed;
}

void PageTable::change(Step& step, std::uint32_t level, std::size_t index, PageRef ref) {
  const PageRef& old = levels_[level][index];
  if (!old.is_uniform()) step.replaced.push_back(old.where);
  step.changes.push_back({level, index, ref});
}

void PageTable::add_unit(Step& step, std::uint32_t level, std::size_t index,
                         std::unique_ptr<Unit> unit) {
  const std::uint64_t where = pool_.take();
  change(step, level, index, {where, checksum_of(unit->bytes, where)});
  step.writes.push_back({where, unit.get()});
  step.buffers.push_back(std::move(unit));
}

// `below` are the changes of the level below, ascending.
void PageTable::plan_nodes(Step& step, std::uint32_t level, std::span<const Step::Change> below) {
  while (!below.empty()) {
    const std::size_t node = below.front().index / kNodeRefs;
    const std::size_t count = shape_.children(level, node);
    std::array<PageRef, kNodeRefs> refs{};
    std::copy_n(levels_[level - 1].begin() + static_cast<std::ptrdiff_t>(node * kNodeRefs), count,
                refs.begin());
    for (; !below.empty() && below.front().index / kNodeRefs == node; below = below.subspan(1)) {
      refs[below.front().index % kNodeRefs] = below.front().ref;
    }
    const auto used = std::span(refs).first(count);
    const bool uniform =
        used[0].is_uniform() &&
        std::all_of(used.begin(), used.end(), [&](const PageRef& ref) { return ref == used[0]; });
    if (uniform) {
      change(step, level, node, used[0]);
    } else {
      auto unit = std::make_unique<Unit>();
      pack(refs, *unit);
      add_unit(step, level, node, std::move(unit));
    }
  }
}

PageTable::Step PageTable::plan(std::span<const FrozenPage> frozen) {
  Step step;
  std::vector<std::size_t> last(levels_.size(), ~std::size_t{0});
  std::uint64_t needed = 0;
  for (const FrozenPage& page : frozen) {
    needed += units_needed(page, last);
    if (needed > pool_.free()) break;
    ++step.pages;
    std::size_t node = page.page;
    for (std::uint32_t level = 1; level < levels_.size(); ++level) last[level] = node /= kNodeRefs;
  }
  for (const FrozenPage& page : frozen.first(step.pages)) {
    if (page.content.kind != PageKind::mixed) {
      change(step, 0, page.page, PageRef::uniform(page.content.kind));
      continue;
    }
    auto unit = std::make_unique<Unit>();
    pack(*page.content.words, *unit);
    add_unit(step, 0, page.page, std::move(unit));
  }
  std::size_t first = 0;
  for (std::uint32_t level = 1; level < levels_.size(); ++level) {
    const std::vector<Step::Change> below(step.changes.begin() + static_cast<std::ptrdiff_t>(first),
                                          step.changes.end());
    first = step.changes.size();
    plan_nodes(step, level, below);
  }
  step.roots = {};
  std::copy(levels_.back().begin(), levels_.back().end(), step.roots.begin());
  for (; first < step.changes.size(); ++first) {
    step.roots[step.changes[first].index] = step.changes[first].ref;
  }
  std::sort(step.writes.begin(), step.writes.end(),
            [](const UnitTransfer& a, const UnitTransfer& b) { return a.unit < b.unit; });
  return step;
}

void PageTable::apply(const Step& step) {
  for (const Step::Change& change : step.changes) levels_[change.level][change.index] = change.ref;
  for (const std::uint64_t unit : step.replaced) pool_.give(unit);
}

void PageTable::abandon(const Step& step) {
  for (const UnitTransfer& write : step.writes) pool_.give(write.unit);
}

}  // namespace clonedev
