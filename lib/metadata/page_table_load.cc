// Reading the tree at attach: level by level from the root references down.
#include <fmt/format.h>

#include <algorithm>

#include "metadata/page_table.h"

namespace clonedev {
namespace {

constexpr std::size_t kUnitsAtATime = 1024;

}  // namespace

Task<Result<PageTable>> PageTable::load(BlockDevice& device, const Superblock& superblock,
                                        const PageSink& sink) {
  PageTable table(superblock, Geometry(superblock.size_bytes, superblock.region_size));
  Level& top = table.levels_.back();
  std::copy_n(superblock.roots.begin(), top.size(), top.begin());
  const auto rest = std::span(superblock.roots).subspan(top.size());
  if (!std::all_of(rest.begin(), rest.end(), [](const PageRef& ref) { return ref == PageRef{}; })) {
    co_return fail(Errc::damaged,
                   "metadata: the superblock refers to pages past the end of the disk: restore "
                   "the metadata from a backup");
  }
  for (std::uint32_t level = superblock.depth + 1; level-- > 0;) {
    if (auto outcome = co_await table.load_level(device, level, sink); !outcome) {
      co_return fail(outcome.error());
    }
  }
  co_return table;
}

Task<Result<>> PageTable::load_level(BlockDevice& device, std::uint32_t level,
                                     const PageSink& sink) {
  std::vector<std::size_t> indices;  // Of what has a unit.
  for (std::size_t i = 0; i < levels_[level].size(); ++i) {
    if (auto valid = check_ref(level, i); !valid) co_return valid;
    if (levels_[level][i].is_uniform()) {
      spread_uniform(level, i);
    } else {
      indices.push_back(i);
    }
  }
  std::sort(indices.begin(), indices.end(), [&](std::size_t a, std::size_t b) {
    return levels_[level][a].where < levels_[level][b].where;
  });
  std::vector<Unit> units(std::min(indices.size(), kUnitsAtATime));
  for (std::size_t done = 0; done < indices.size(); done += units.size()) {
    const auto some =
        std::span(indices).subspan(done, std::min(units.size(), indices.size() - done));
    std::vector<UnitTransfer> reads;
    for (std::size_t i = 0; i < some.size(); ++i) {
      reads.push_back({levels_[level][some[i]].where, &units[i]});
    }
    if (auto outcome = co_await read_units(device, reads); !outcome) co_return outcome;
    for (std::size_t i = 0; i < some.size(); ++i) {
      if (auto good = take_in(level, some[i], units[i], sink); !good) co_return good;
    }
  }
  co_return Result<>{};
}

Result<> PageTable::check_ref(std::uint32_t level, std::size_t index) {
  const PageRef& ref = levels_[level][index];
  if (ref.is_uniform()) {
    if (ref.checksum != 0) return damaged(level, index, "has a checksum without a page");
    return {};
  }
  if (!pool_.take(ref.where)) {
    return damaged(level, index, "lies outside of the metadata or where something else lies");
  }
  return {};
}

void PageTable::spread_uniform(std::uint32_t level, std::size_t index) {
  if (level == 0) return;
  Level& below = levels_[level - 1];
  std::fill_n(below.begin() + static_cast<std::ptrdiff_t>(index * kNodeRefs),
              children(level, index), levels_[level][index]);
}

Result<> PageTable::take_in(std::uint32_t level, std::size_t index, const Unit& unit,
                            const PageSink& sink) {
  const PageRef& ref = levels_[level][index];
  if (checksum_of(unit.bytes, ref.where) != ref.checksum) {
    return damaged(level, index, "has a wrong checksum");
  }
  if (level == 0) {
    PageWords words;
    unpack(unit, words);
    if (const char* fault = fault_of(words, blocks_in_page(geometry_, index))) {
      return damaged(level, index, fault);
    }
    return sink(index, words);
  }
  std::array<PageRef, kNodeRefs> refs;
  unpack(unit, refs);
  const std::size_t count = children(level, index);
  if (!std::all_of(refs.begin() + static_cast<std::ptrdiff_t>(count), refs.end(),
                   [](const PageRef& one) { return one == PageRef{}; })) {
    return damaged(level, index, "refers to pages past the end of the disk");
  }
  std::copy_n(refs.begin(), count,
              levels_[level - 1].begin() + static_cast<std::ptrdiff_t>(index * kNodeRefs));
  return {};
}

tl::unexpected<Error> PageTable::damaged(std::uint32_t level, std::size_t index,
                                         const char* what) const {
  std::uint64_t covers = kPageCoversBytes;
  for (std::uint32_t i = 0; i < level; ++i) covers *= kNodeRefs;
  const std::uint64_t first = index * covers;
  return fail(Errc::damaged,
              fmt::format("metadata: the {} for bytes {}..{} of the disk (unit {}) {}: the "
                          "metadata are damaged: restore them from a backup",
                          level == 0 ? "state page" : "page table node", first,
                          std::min(first + covers, geometry_.size_bytes()) - 1,
                          levels_[level][index].where, what));
}

}  // namespace clonedev
