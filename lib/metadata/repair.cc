#include "metadata/repair.h"

#include <algorithm>

#include "metadata/page_table.h"

namespace clonedev {
namespace {

class Tolerant final : public TreeVisitor {
 public:
  explicit Tolerant(const std::vector<FrozenPage>& content) : content_(content) {}

  Result<> reference(std::uint32_t, std::size_t, const PageRef&) override { return {}; }
  Result<> page(std::size_t, const PageWords&) override { return {}; }
  Result<> damage(const TreeDamage& damage) override {
    const auto from = std::ranges::lower_bound(content_, damage.pages.first, {}, &FrozenPage::page);
    const auto left = static_cast<std::size_t>(content_.end() - from);
    const std::size_t last = damage.pages.count - 1;
    if (left > last && from[static_cast<std::ptrdiff_t>(last)].page == damage.pages.first + last) {
      return {};
    }
    return fail(damage.error);
  }

 private:
  const std::vector<FrozenPage>& content_;
};

template <class F>
std::vector<FrozenPage> each_page(const std::vector<TreeShape::Pages>& pages, F content) {
  std::vector<FrozenPage> all;
  for (const TreeShape::Pages& range : pages) {
    for (std::size_t i = 0; i < range.count; ++i) {
      all.push_back({range.first + i, content(range.first + i)});
    }
  }
  return all;
}

}  // namespace

std::vector<FrozenPage> content_in_state(const std::vector<TreeShape::Pages>& pages,
                                         BlockState state) {
  return each_page(pages, [&](std::size_t) { return PageContent{uniform(state), nullptr}; });
}

std::vector<FrozenPage> content_of(const std::vector<TreeShape::Pages>& pages, StatePages& states,
                                   const Geometry& geometry) {
  return each_page(pages, [&](std::size_t page) {
    return copy_of(states, page, blocks_in_page(geometry, page));
  });
}

Task<Result<>> repair_metadata(BlockDevice& device, Superblock superblock,
                               const std::vector<FrozenPage>& content) {
  // What was read may be in a cache only, and the slot before it is about to be overwritten.
  if (auto flushed = co_await flush_units(device); !flushed) co_return flushed;
  Tolerant tolerant(content);
  TreeVisitor& visitor = tolerant;
  auto table = co_await PageTable::load(device, superblock, visitor);
  if (!table) co_return fail(table.error());
  std::span<const FrozenPage> rest(content);
  do {
    const PageTable::Step step = table->plan(rest);
    if (step.pages == 0 && !rest.empty()) {
      co_return fail(Errc::no_space,
                     "metadata: no unit is free for the repair: restore them from "
                     "a dump or a backup");
    }
    if (auto written = co_await write_units(device, step.writes); !written) co_return written;
    if (auto flushed = co_await flush_units(device); !flushed) co_return flushed;
    superblock.roots = step.roots;
    ++superblock.sequence;
    if (auto sealed = co_await write_superblock(device, superblock); !sealed) co_return sealed;
    table->apply(step);
    rest = rest.subspan(step.pages);
  } while (!rest.empty());
  co_return Result<>{};
}

}  // namespace clonedev
