// Reading the tree into a table, at attach and for a repair.
#include <algorithm>

#include "metadata/page_table.h"

namespace clonedev {
namespace {

class Strict final : public TreeVisitor {
 public:
  explicit Strict(const PageTable::PageSink& sink) : sink_(sink) {}

  Result<> reference(std::uint32_t, std::size_t, const PageRef&) override { return {}; }
  Result<> page(std::size_t page, const PageWords& words) override { return sink_(page, words); }
  Result<> damage(const TreeDamage& damage) override { return fail(damage.error); }

 private:
  const PageTable::PageSink& sink_;
};

}  // namespace

// Puts what it is told into the table, and tells it on.
class PageTable::Loader final : public TreeVisitor {
 public:
  Loader(PageTable& table, TreeVisitor& outer) : table_(table), outer_(outer) {}

  Result<> reference(std::uint32_t level, std::size_t index, const PageRef& ref) override {
    table_.place(level, index, ref);
    return outer_.reference(level, index, ref);
  }
  Result<> page(std::size_t page, const PageWords& words) override {
    return outer_.page(page, words);
  }
  Result<> damage(const TreeDamage& damage) override { return outer_.damage(damage); }

 private:
  PageTable& table_;
  TreeVisitor& outer_;
};

// What is uniform is so in every level below, where plan() looks.
void PageTable::place(std::uint32_t level, std::size_t index, const PageRef& ref) {
  levels_[level][index] = ref;
  std::size_t first = index;
  std::size_t count = 1;
  while (ref.is_uniform() && level > 0) {
    --level;
    first *= kNodeRefs;
    count = std::min(count * kNodeRefs, levels_[level].size() - first);
    std::fill_n(levels_[level].begin() + static_cast<std::ptrdiff_t>(first), count, ref);
  }
}

Task<Result<PageTable>> PageTable::load(BlockDevice& device, const Superblock& superblock,
                                        TreeVisitor& visitor) {
  PageTable table(superblock);
  Loader loader(table, visitor);
  auto walked = co_await walk_tree(device, superblock, table.pool_, loader);
  if (!walked) co_return fail(walked.error());
  co_return table;
}

Task<Result<PageTable>> PageTable::load(BlockDevice& device, const Superblock& superblock,
                                        const PageSink& sink) {
  Strict strict(sink);
  TreeVisitor& visitor = strict;
  co_return co_await load(device, superblock, visitor);
}

}  // namespace clonedev
