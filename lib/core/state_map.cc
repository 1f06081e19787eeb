#include "core/state_map.h"

#include <atomic>
#include <bit>
#include <cassert>

namespace clonedev {
namespace {

constexpr std::uint64_t kLowBits = 0x5555'5555'5555'5555u;
constexpr std::uint32_t kStale = ~std::uint32_t{0};
constexpr std::size_t kPerWord = StatePages::kBlocksPerWord;
constexpr std::size_t kPerPage = StatePages::kBlocksPerPage;

// Words are read by other threads and, after a kill, by the next process.
std::uint64_t load(std::uint64_t& word) {
  return std::atomic_ref(word).load(std::memory_order_relaxed);
}
void store(std::uint64_t& word, std::uint64_t value) {
  std::atomic_ref(word).store(value, std::memory_order_relaxed);
}

// One bit (the low one of the pair) for each place of the word that does not hold `state`.
std::uint64_t differing(std::uint64_t word, BlockState state) {
  const std::uint64_t x = word ^ repeated(state);
  return (x | (x >> 1)) & kLowBits;
}

// The low bits of places [first, end) of a word.
std::uint64_t places(std::size_t first, std::size_t end) {
  const std::uint64_t upto =
      end == kPerWord ? ~std::uint64_t{0} : (std::uint64_t{1} << (2 * end)) - 1;
  return upto & (~std::uint64_t{0} << (2 * first)) & kLowBits;
}

// How many of the places of the mask hold that state.
std::uint32_t places_with(BlockState state, std::uint64_t word, std::uint64_t mask) {
  return static_cast<std::uint32_t>(std::popcount(~differing(word, state) & mask));
}

constexpr std::size_t index_of(BlockState state) { return static_cast<std::size_t>(state); }

// Calls f(word index, mask of low bits) for the words that blocks [first, end) of a page touch,
// until f returns false.
template <class F>
void for_words(std::size_t first, std::size_t end, F&& f) {
  while (first < end) {
    const std::size_t word = first / kPerWord;
    const std::size_t stop = std::min(end, (word + 1) * kPerWord);
    if (!f(word, places(first % kPerWord, stop - word * kPerWord))) return;
    first = stop;
  }
}

}  // namespace

StateMap::StateMap(Geometry geometry, StatePages& pages) : geometry_(geometry), pages_(pages) {
  take_over(0);
}

void StateMap::take_over(std::size_t first) {
  const std::size_t pages = pages_of({0, geometry_.blocks()}).count;
  assert(pages_.pages() >= pages);
  counts_.resize(pages);
  hydrated_.resize(pages, kStale);
  for (std::size_t page = first; page < pages; ++page) recount(page);
}

void StateMap::grow(Geometry larger) {
  const std::size_t last = counts_.size() - 1;  // Perhaps the disk has more of it now.
  geometry_ = larger;
  take_over(last);
}

BlockRange StateMap::pages_of(BlockRange range) {
  if (range.empty()) return {range.first / kPerPage, 0};
  const std::uint64_t first = range.first / kPerPage;
  return {first, Geometry::divide_up(range.end(), kPerPage) - first};
}

BlockRange StateMap::page_blocks(std::size_t page) const {
  const std::uint64_t first = page * kPerPage;
  return {first, std::min<std::uint64_t>(kPerPage, geometry_.blocks() - first)};
}

BlockState StateMap::at(std::uint64_t block) const {
  const std::size_t page = block / kPerPage;
  const PageKind kind = pages_.kind(page);
  if (kind != PageKind::mixed) return state_of(kind);
  const std::size_t place = block % kPerPage;
  const std::uint64_t word = load(pages_.words(page)[place / kPerWord]);
  return static_cast<BlockState>((word >> (2 * (place % kPerWord))) & 3);
}

StateRun StateMap::run(BlockRange range) const {
  assert(!range.empty() && range.end() <= geometry_.blocks());
  StateRun total{{range.first, 0}, at(range.first)};
  while (total.blocks.end() < range.end()) {
    const std::size_t page = total.blocks.end() / kPerPage;
    const std::uint64_t end = std::min(range.end(), page_blocks(page).end());
    const StateRun part = run_in_page(page, {total.blocks.end(), end - total.blocks.end()});
    if (part.state != total.state) break;
    total.blocks.count += part.blocks.count;
    if (part.blocks.end() < end) break;
  }
  return total;
}

StateRun StateMap::run_in_page(std::size_t page, BlockRange range) const {
  const PageKind kind = pages_.kind(page);
  if (kind != PageKind::mixed) return {range, state_of(kind)};
  const BlockState state = at(range.first);
  const auto words = pages_.words(page);
  const std::size_t base = page * kPerPage;
  std::uint64_t end = range.end();
  for_words(range.first - base, range.end() - base, [&](std::size_t word, std::uint64_t mask) {
    const std::uint64_t other = differing(load(words[word]), state) & mask;
    if (!other) return true;
    end = base + word * kPerWord + static_cast<unsigned>(std::countr_zero(other)) / 2;
    return false;
  });
  return {{range.first, end - range.first}, state};
}

BlockRange StateMap::find(BlockRange range, BlockState state) const {
  while (!range.empty()) {
    // Whole pages without the state are stepped over by their counts.
    const std::size_t page = range.first / kPerPage;
    const StateRun next = run(range);
    if (next.state == state) return next.blocks;
    std::uint64_t end = next.blocks.end();
    const bool absent = counts_[page][index_of(state)] == 0;
    if (absent) end = std::max(end, page_blocks(page).end());
    if (end >= range.end()) break;
    range = {end, range.end() - end};
  }
  return {range.end(), 0};
}

bool StateMap::all(BlockRange range, BlockState state) const {
  if (range.empty()) return true;
  const StateRun first = run(range);
  return first.state == state && first.blocks == range;
}

std::optional<StateRoom> StateMap::make_room(BlockRange range) {
  StateRoom room(pages_);
  const BlockRange touched = pages_of(range);
  if (touched.empty()) return room;
  if (!room.add(touched.first)) return std::nullopt;
  if (touched.count > 1 && !room.add(touched.end() - 1)) return std::nullopt;
  return room;
}

bool StateMap::set(BlockRange range, BlockState state) {
  assert(range.end() <= geometry_.blocks());
  const BlockRange touched = pages_of(range);
  // Only the first and the last page can be covered in part: allocate both before any change.
  for (const std::uint64_t page : {touched.first, touched.end() - 1}) {
    if (range.empty()) return true;
    const BlockRange whole = page_blocks(page);
    const bool partial = range.first > whole.first || range.end() < whole.end();
    const PageKind kind = pages_.kind(page);
    if (!partial || kind == PageKind::mixed || kind == uniform(state)) continue;
    if (!pages_.allocate(page, repeated(state_of(kind)))) return false;
  }
  for (std::size_t page = touched.first; page < touched.end(); ++page) {
    const BlockRange whole = page_blocks(page);
    const std::uint64_t first = std::max(range.first, whole.first);
    const std::uint64_t end = std::min(range.end(), whole.end());
    set_in_page(page, {first, end - first}, state);
  }
  return true;
}

void StateMap::set_in_page(std::size_t page, BlockRange range, BlockState state) {
  const PageKind kind = pages_.kind(page);
  if (kind == uniform(state)) return;
  if (range == page_blocks(page)) {
    pages_.set_kind(page, uniform(state));
    recount(page);
    return;
  }
  if (kind != PageKind::mixed) pages_.set_kind(page, PageKind::mixed);
  const auto words = pages_.words(page);
  const std::size_t base = page * kPerPage;
  PageCounts after = counts_[page];
  for_words(range.first - base, range.end() - base, [&](std::size_t word, std::uint64_t mask) {
    const std::uint64_t pairs = mask * 3;
    const std::uint64_t before = load(words[word]);
    store(words[word], (before & ~pairs) | (repeated(state) & pairs));
    for (std::size_t each = 0; each < kBlockStates; ++each) {
      after[each] -= places_with(static_cast<BlockState>(each), before, mask);
    }
    return true;
  });
  after[index_of(state)] += static_cast<std::uint32_t>(range.count);
  take_counts(page, after);
  collapse(page);
}

void StateMap::collapse(std::size_t page) {
  const std::uint64_t blocks = page_blocks(page).count;
  for (std::size_t state = 0; state < kBlockStates; ++state) {
    if (counts_[page][state] != blocks) continue;
    pages_.set_kind(page, uniform(static_cast<BlockState>(state)));
    return;
  }
}

StateMap::PageCounts StateMap::count(std::size_t page) const {
  const auto blocks = static_cast<std::uint32_t>(page_blocks(page).count);
  PageCounts counts{};
  const PageKind kind = pages_.kind(page);
  if (kind != PageKind::mixed) {
    counts[index_of(state_of(kind))] = blocks;
    return counts;
  }
  const auto words = pages_.words(page);
  for_words(0, blocks, [&](std::size_t word, std::uint64_t mask) {
    const std::uint64_t value = load(words[word]);
    for (std::size_t state = 0; state < kBlockStates; ++state) {
      counts[state] += places_with(static_cast<BlockState>(state), value, mask);
    }
    return true;
  });
  return counts;
}

void StateMap::recount(std::size_t page) { take_counts(page, count(page)); }

void StateMap::take_counts(std::size_t page, const PageCounts& after) {
  const PageCounts before = counts_[page];
  for (std::size_t state = 0; state < kBlockStates; ++state) {
    totals_[state] = totals_[state] + after[state] - before[state];
  }
  counts_[page] = after;
  hydrated_[page] = kStale;
}

BlockCounts StateMap::counts() const {
  const std::uint64_t copied = totals_[index_of(BlockState::copied)];
  return {totals_[index_of(BlockState::origin)], totals_[index_of(BlockState::zero)],
          totals_[index_of(BlockState::destination)] + copied, copied};
}

std::uint64_t StateMap::hydrated_in_page(std::size_t page) const {
  const BlockRange blocks = page_blocks(page);
  const std::uint64_t per_region = geometry_.blocks_per_region();
  if (per_region == 1) return blocks.count - counts_[page][index_of(BlockState::origin)];
  std::uint64_t hydrated = 0;
  for (std::uint64_t first = blocks.first; first < blocks.end(); first += per_region) {
    const BlockRange region{first, std::min(per_region, blocks.end() - first)};
    hydrated += find(region, BlockState::origin).empty();
  }
  return hydrated;
}

std::uint64_t StateMap::hydrated_regions() const {
  const std::uint64_t per_region = geometry_.blocks_per_region();
  std::uint64_t hydrated = 0;
  if (per_region > kPerPage) {  // A region is several pages.
    const std::size_t stride = per_region / kPerPage;
    for (std::size_t page = 0; page < counts_.size(); page += stride) {
      bool clean = true;
      for (std::size_t i = page; i < std::min(page + stride, counts_.size()); ++i) {
        clean = clean && counts_[i][index_of(BlockState::origin)] == 0;
      }
      hydrated += clean;
    }
    return hydrated;
  }
  for (std::size_t page = 0; page < counts_.size(); ++page) {
    if (hydrated_[page] == kStale) {
      hydrated_[page] = static_cast<std::uint32_t>(hydrated_in_page(page));
    }
    hydrated += hydrated_[page];
  }
  return hydrated;
}

}  // namespace clonedev
