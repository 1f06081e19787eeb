#include "metadata/repair.h"

#include <algorithm>

#include "metadata/page_table.h"

namespace clonedev {
namespace {

class Tolerant final : public TreeVisitor {
 public:
  explicit Tolerant(const std::vector<TreeShape::Pages>& lost) : lost_(lost) {}

  Result<> reference(std::uint32_t, std::size_t, const PageRef&) override { return {}; }
  Result<> page(std::size_t, const PageWords&) override { return {}; }
  Result<> damage(const TreeDamage& damage) override {
    const auto holds = [&](const TreeShape::Pages& range) {
      return range.first <= damage.pages.first &&
             damage.pages.first + damage.pages.count <= range.first + range.count;
    };
    if (std::ranges::any_of(lost_, holds)) return {};
    return fail(damage.error);
  }

 private:
  const std::vector<TreeShape::Pages>& lost_;
};

std::vector<FrozenPage> filled(const std::vector<TreeShape::Pages>& pages, BlockState state) {
  std::vector<FrozenPage> frozen;
  for (const TreeShape::Pages& range : pages) {
    for (std::size_t i = 0; i < range.count; ++i) {
      frozen.push_back({range.first + i, PageContent{uniform(state), nullptr}});
    }
  }
  return frozen;
}

}  // namespace

Task<Result<>> repair_metadata(BlockDevice& device, Superblock superblock,
                               const std::vector<TreeShape::Pages>& pages, BlockState state) {
  // What was read may be in a cache only, and the slot before it is about to be overwritten.
  if (auto flushed = co_await flush_units(device); !flushed) co_return flushed;
  Tolerant tolerant(pages);
  TreeVisitor& visitor = tolerant;
  auto table = co_await PageTable::load(device, superblock, visitor);
  if (!table) co_return fail(table.error());
  const std::vector<FrozenPage> frozen = filled(pages, state);
  std::span<const FrozenPage> rest(frozen);
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
