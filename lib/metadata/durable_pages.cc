#include "metadata/durable_pages.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "core/state_map.h"

namespace clonedev {

bool DurablePages::unchanged(Map::iterator it) const {
  return same(live_, it->first, it->second.durable, blocks_in_page(geometry_, it->first));
}

DurablePages::Map::iterator DurablePages::erase(Map::iterator it) {
  urgent_ -= it->second.urgent();
  return pages_.erase(it);
}

void DurablePages::keep(std::size_t page) {
  const auto hint = pages_.lower_bound(page);
  if (hint != pages_.end() && hint->first == page) return;
  Kept kept;
  kept.durable = copy_of(live_, page, blocks_in_page(geometry_, page));
  pages_.emplace_hint(hint, page, std::move(kept));
}

void DurablePages::drop_if_same(std::size_t page) {
  const auto it = pages_.find(page);
  if (it == pages_.end() || it->second.frozen || !unchanged(it)) return;
  erase(it);
}

void DurablePages::adopt(std::size_t page, PageContent content) {
  if (same(live_, page, content, blocks_in_page(geometry_, page))) return;
  Kept kept;
  kept.durable = std::move(content);
  kept.written = true;
  pages_.emplace(page, std::move(kept));
  ++urgent_;
}

void DurablePages::mark_written(BlockRange blocks, BlockState state) {
  const BlockRange pages = StateMap::pages_of(blocks);
  auto it = pages_.lower_bound(pages.first);
  for (; it != pages_.end() && it->first < pages.end(); ++it) {
    const std::uint64_t base = it->first * StatePages::kBlocksPerPage;
    const std::uint64_t first = std::max(blocks.first, base);
    const std::uint64_t end = std::min(blocks.end(), base + StatePages::kBlocksPerPage);
    // While a commit is under way its frozen copy is about to become what is durable, and that may
    // say otherwise: only without one does the durable copy decide.
    if (!it->second.frozen &&
        all_with_authority(it->second.durable, {first - base, end - first}, state)) {
      continue;
    }
    urgent_ += !it->second.urgent();
    it->second.written = true;
  }
}

PageContent DurablePages::durable(std::size_t page) const {
  const auto it = pages_.find(page);
  if (it != pages_.end()) return copy_of(it->second.durable);
  return copy_of(live_, page, blocks_in_page(geometry_, page));
}

void DurablePages::grow(Geometry larger, BlockState state) {
  const std::size_t last = StateMap::pages_of({0, geometry_.blocks()}).count - 1;
  const std::size_t before = blocks_in_page(geometry_, last);
  geometry_ = larger;
  const auto it = pages_.find(last);
  if (it == pages_.end()) return;
  assert(!it->second.frozen);
  extend(it->second.durable, before, blocks_in_page(geometry_, last), state);
}

std::vector<FrozenPage> DurablePages::freeze() {
  std::vector<FrozenPage> frozen;
  for (auto it = pages_.begin(); it != pages_.end();) {
    assert(!it->second.frozen);
    if (unchanged(it)) {
      it = erase(it);
      continue;
    }
    it->second.frozen = true;
    it->second.written_before =
        std::exchange(it->second.written, false) || it->second.written_before;
    frozen.push_back({it->first, copy_of(live_, it->first, blocks_in_page(geometry_, it->first))});
    ++it;
  }
  return frozen;
}

void DurablePages::settle(std::span<FrozenPage> durable) {
  for (FrozenPage& page : durable) {
    const auto it = pages_.find(page.page);
    assert(it != pages_.end() && it->second.frozen);
    Kept& kept = it->second;
    urgent_ -= kept.urgent();
    kept.frozen = kept.written_before = false;
    urgent_ += kept.urgent();
    kept.durable = std::move(page.content);
    if (unchanged(it)) erase(it);
  }
}

void DurablePages::thaw() {
  for (auto& [page, kept] : pages_) kept.frozen = false;
}

}  // namespace clonedev
