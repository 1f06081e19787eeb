#include "metadata/tree_builder.h"

#include <algorithm>
#include <cassert>

#include "metadata/page_content.h"

namespace clonedev {
namespace {

constexpr std::size_t kWriteFrom = 256;  // Units.
constexpr std::uint64_t kPerPage = StatePages::kBlocksPerPage;
constexpr std::uint64_t kBlocksPerWord = StatePages::kBlocksPerWord;

}  // namespace

TreeBuilder::TreeBuilder(BlockDevice& device, const Superblock& superblock)
    : device_(device), shape_(superblock), refs_(superblock.depth + 1) {}

bool TreeBuilder::add(const StateRun& run) {
  assert(run.blocks.first == next_block_);
  BlockRange left = run.blocks;
  while (!left.empty()) {
    const std::uint64_t base = left.first / kPerPage * kPerPage;
    const std::uint64_t page_end = std::min(base + kPerPage, shape_.geometry().blocks());
    const std::uint64_t end = std::min(left.end(), page_end);
    const bool whole_page = left.first == base && end == page_end;
    next_block_ = end;
    if (whole_page) {
      end_page(PageRef::uniform(uniform(run.state)));
    } else {
      add_in_page({left.first - base, end - left.first}, run.state);
      if (end == page_end) end_page(take_words());
    }
    left = {end, left.end() - end};
  }
  return ready_.size() >= kWriteFrom;
}

void TreeBuilder::add_in_page(BlockRange places, BlockState state) {
  for (std::uint64_t place = places.first; place < places.end();) {
    const bool whole = place % kBlocksPerWord == 0 && places.end() - place >= kBlocksPerWord;
    const auto bits = static_cast<std::uint64_t>(state) << 2 * (place % kBlocksPerWord);
    words_[place / kBlocksPerWord] |= whole ? repeated(state) : bits;
    place += whole ? kBlocksPerWord : 1;
  }
}

PageRef TreeBuilder::take_words() {
  const std::size_t page = (next_block_ - 1) / kPerPage;
  PageContent content{PageKind::mixed, std::make_unique<PageWords>(words_)};
  words_ = {};
  const auto first = static_cast<BlockState>(content.words->front() & 3);
  if (all_in(content, {0, blocks_in_page(shape_.geometry(), page)}, first)) {
    return PageRef::uniform(uniform(first));
  }
  auto unit = std::make_unique<Unit>();
  pack(*content.words, *unit);
  return place(std::move(unit));
}

void TreeBuilder::end_page(PageRef page) {
  add_ref(0, page);
  if (next_block_ < shape_.geometry().blocks()) return;
  for (std::uint32_t level = 0; level < shape_.depth(); ++level) {
    if (!refs_[level].empty()) end_node(level);
  }
  std::ranges::copy(refs_.back(), roots_.begin());
}

PageRef TreeBuilder::place(std::unique_ptr<Unit> unit) {
  const PageRef ref{next_unit_, checksum_of(unit->bytes, next_unit_)};
  ++next_unit_;
  ready_.push_back(std::move(unit));
  return ref;
}

void TreeBuilder::add_ref(std::uint32_t level, PageRef ref) {
  refs_[level].push_back(ref);
  if (level < shape_.depth() && refs_[level].size() == kNodeRefs) end_node(level);
}

// The references of `level` become a node of the one above.
void TreeBuilder::end_node(std::uint32_t level) {
  std::vector<PageRef>& refs = refs_[level];
  const bool same = refs[0].is_uniform() &&
                    std::ranges::all_of(refs, [&](const PageRef& ref) { return ref == refs[0]; });
  PageRef node = refs[0];
  if (!same) {
    std::array<PageRef, kNodeRefs> whole{};
    std::ranges::copy(refs, whole.begin());
    auto unit = std::make_unique<Unit>();
    pack(whole, *unit);
    node = place(std::move(unit));
  }
  refs.clear();
  add_ref(level + 1, node);
}

Task<Result<>> TreeBuilder::write() {
  std::vector<UnitTransfer> writes;
  std::uint64_t unit = next_unit_ - ready_.size();
  for (const std::unique_ptr<Unit>& ready : ready_) writes.push_back({unit++, ready.get()});
  auto written = co_await write_units(device_, writes);
  ready_.clear();
  co_return written;
}

Task<Result<>> TreeBuilder::finish() {
  assert(next_block_ == shape_.geometry().blocks());
  auto written = co_await write();
  if (!written) co_return written;
  co_return co_await flush_units(device_);
}

}  // namespace clonedev
