#include "core/state_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "support/sizes.h"

namespace clonedev {
namespace {

constexpr std::uint64_t kPage = StatePages::kBlocksPerPage;
constexpr BlockState kStates[] = {BlockState::origin, BlockState::zero, BlockState::destination,
                                  BlockState::copied};

// Pages of a live map that is full: so many more can be made, then none.
class LimitedPages final : public StatePages {
 public:
  LimitedPages(std::size_t pages, std::size_t budget) : heap_(pages), budget_(budget) {}

  void set_budget(std::size_t budget) { budget_ = budget; }
  std::size_t mixed() const {
    std::size_t count = 0;
    for (std::size_t page = 0; page < heap_.pages(); ++page) count += kind(page) == PageKind::mixed;
    return count;
  }

  std::size_t pages() const override { return heap_.pages(); }
  PageKind kind(std::size_t page) const override { return heap_.kind(page); }
  Words words(std::size_t page) override { return heap_.words(page); }
  bool allocate(std::size_t page, std::uint64_t fill) override {
    if (reserved_.contains(page)) return heap_.allocate(page, fill);
    if (budget_ == 0) return false;
    --budget_;
    return heap_.allocate(page, fill);
  }
  bool reserve(std::size_t page) override {
    if (budget_ == 0) return false;
    --budget_;
    reserved_.insert(page);
    return true;
  }
  void release(std::size_t page) override {
    reserved_.erase(reserved_.find(page));
    ++budget_;
  }
  void set_kind(std::size_t page, PageKind kind) override { heap_.set_kind(page, kind); }

 private:
  HeapStatePages heap_;
  std::size_t budget_;
  std::multiset<std::size_t> reserved_;
};

std::size_t pages_for(const Geometry& geometry) {
  return StateMap::pages_of({0, geometry.blocks()}).count;
}

// One state a block, and every question answered by looking at all of them.
class Model {
 public:
  explicit Model(const Geometry& geometry) : geometry_(geometry), states_(geometry.blocks()) {}

  BlockState at(std::uint64_t block) const { return states_[block]; }
  void set(BlockRange range, BlockState state) {
    std::fill(at_offset(range.first), at_offset(range.end()), state);
  }
  BlockRange run(BlockRange range) const {
    std::uint64_t end = range.first;
    while (end < range.end() && states_[end] == states_[range.first]) ++end;
    return {range.first, end - range.first};
  }
  BlockRange find(BlockRange range, BlockState state) const {
    std::uint64_t first = range.first;
    while (first < range.end() && states_[first] != state) ++first;
    return first == range.end() ? BlockRange{first, 0} : run({first, range.end() - first});
  }
  std::uint64_t count(BlockState state) const {
    return static_cast<std::uint64_t>(std::count(states_.begin(), states_.end(), state));
  }
  std::uint64_t hydrated_regions() const {
    std::uint64_t hydrated = 0;
    for (std::uint64_t region = 0; region < geometry_.regions(); ++region) {
      const std::uint64_t first = region * geometry_.blocks_per_region();
      const std::uint64_t end = std::min(first + geometry_.blocks_per_region(), geometry_.blocks());
      hydrated += find({first, end - first}, BlockState::origin).empty();
    }
    return hydrated;
  }
  bool page_is_uniform(std::uint64_t page) const {
    const std::uint64_t first = page * kPage;
    const BlockRange range{first, std::min(kPage, geometry_.blocks() - first)};
    return run(range) == range;
  }

 private:
  std::vector<BlockState>::iterator at_offset(std::uint64_t block) {
    return states_.begin() + static_cast<std::ptrdiff_t>(block);
  }

  Geometry geometry_;
  std::vector<BlockState> states_;
};

// A range that likes the borders of words and pages, where mistakes live.
BlockRange random_range(std::mt19937_64& random, std::uint64_t blocks) {
  const auto point = [&] {
    const std::uint64_t unit = std::array<std::uint64_t, 4>{1, 32, 32, kPage}[random() % 4];
    const std::uint64_t at = random() % (blocks + 1) / unit * unit + random() % 3;
    return std::min(at - (at > 0 && random() % 3 == 0), blocks);
  };
  const auto [first, end] = std::minmax({point(), point()});
  if (random() % 2) return {first, std::min(end - first, random() % 100)};
  return {first, end - first};
}

void expect_equal_counts(const StateMap& map, const Model& model) {
  EXPECT_EQ(map.counts().origin, model.count(BlockState::origin));
  EXPECT_EQ(map.counts().zero, model.count(BlockState::zero));
  EXPECT_EQ(map.counts().copied, model.count(BlockState::copied));
  EXPECT_EQ(map.counts().destination,
            model.count(BlockState::destination) + model.count(BlockState::copied));
  EXPECT_EQ(map.hydrated_regions(), model.hydrated_regions());
}

void expect_equal_answers(const StateMap& map, const Model& model, BlockRange range) {
  if (range.empty()) return;
  const StateRun run = map.run(range);
  EXPECT_EQ(run.blocks, model.run(range)) << range.first << " +" << range.count;
  EXPECT_EQ(run.state, model.at(range.first));
  EXPECT_EQ(map.at(range.end() - 1), model.at(range.end() - 1));
  for (const BlockState state : kStates) {
    const BlockRange found = model.find(range, state);
    EXPECT_EQ(map.find(range, state), found) << range.first << " +" << range.count;
    EXPECT_EQ(map.all(range, state), found == range);
  }
}

void expect_equal_blocks(const StateMap& map, const Model& model) {
  for (std::uint64_t block = 0; block < map.geometry().blocks(); ++block) {
    if (map.at(block) == model.at(block)) continue;
    ADD_FAILURE() << "block " << block;
    return;
  }
}

void shadow_random_changes(const Geometry& geometry, std::uint64_t seed, int steps) {
  SCOPED_TRACE("seed " + std::to_string(seed) + " region " +
               std::to_string(geometry.region_size()));
  std::mt19937_64 random(seed);
  HeapStatePages pages(pages_for(geometry));
  StateMap map(geometry, pages);
  Model model(geometry);
  for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
    const BlockRange range = random_range(random, geometry.blocks());
    const BlockState state = kStates[random() % kBlockStates];
    EXPECT_TRUE(map.set(range, state));
    model.set(range, state);
    expect_equal_counts(map, model);
    expect_equal_answers(map, model, range);
    expect_equal_answers(map, model, random_range(random, geometry.blocks()));
  }
  expect_equal_blocks(map, model);
  for (std::size_t page = 0; page < pages.pages(); ++page) {
    EXPECT_EQ(pages.kind(page) != PageKind::mixed, model.page_is_uniform(page)) << page;
  }
  // A second map over the same pages says the same.
  expect_equal_counts(StateMap(geometry, pages), model);
}

TEST(StateMap, begins_with_everything_at_the_origin) {
  const Geometry geometry(3 * kPage * kBlockSize + 512, 4096);
  HeapStatePages pages(pages_for(geometry));
  const StateMap map(geometry, pages);
  EXPECT_EQ(pages.pages(), 4u);
  EXPECT_EQ(map.counts().origin, geometry.blocks());
  EXPECT_EQ(map.counts().total(), geometry.blocks());
  EXPECT_EQ(map.hydrated_regions(), 0u);
  EXPECT_TRUE(map.all({0, geometry.blocks()}, BlockState::origin));
}

TEST(StateMap, agrees_with_a_list_of_states_whatever_is_set) {
  const Geometry geometry((2 * kPage + 777) * kBlockSize - 512, 4096);
  for (std::uint64_t seed = 1; seed <= 10; ++seed) shadow_random_changes(geometry, seed, 60);
}

TEST(StateMap, counts_hydrated_regions_of_every_size) {
  for (std::uint64_t region = 4096; region <= 128 * kMiB; region *= 2) {
    const Geometry geometry((3 * kPage + 5000) * kBlockSize - 1024, region);
    shadow_random_changes(geometry, region / 4096, 15);
  }
  for (const std::uint64_t region : {512 * kMiB, 1024 * kMiB}) {
    shadow_random_changes(Geometry(2 * 1024 * kMiB + 70 * kMiB, region), region, 12);
  }
}

TEST(StateMap, counts_a_region_as_hydrated_when_its_last_block_leaves_the_origin) {
  for (const std::uint64_t region :
       {std::uint64_t{4096}, std::uint64_t{65536}, kPage * kBlockSize, 2 * kPage * kBlockSize}) {
    const Geometry geometry(4 * kPage * kBlockSize, region);
    HeapStatePages pages(pages_for(geometry));
    StateMap map(geometry, pages);
    const std::uint64_t blocks = geometry.blocks_per_region();
    EXPECT_TRUE(map.set({blocks, blocks - 1}, BlockState::zero));
    EXPECT_EQ(map.hydrated_regions(), 0u) << region;
    EXPECT_TRUE(map.set({2 * blocks - 1, 1}, BlockState::destination));
    EXPECT_EQ(map.hydrated_regions(), 1u) << region;
    EXPECT_TRUE(map.set({blocks, 1}, BlockState::origin));
    EXPECT_EQ(map.hydrated_regions(), 0u) << region;
  }
}

TEST(StateMap, gives_the_words_of_a_page_back_when_it_becomes_uniform) {
  const Geometry geometry((2 * kPage + 10) * kBlockSize, 4096);
  for (const BlockState state : kStates) {
    LimitedPages pages(3, 100);
    StateMap map(geometry, pages);
    const BlockState other = state == BlockState::zero ? BlockState::destination : BlockState::zero;
    EXPECT_TRUE(map.set({0, geometry.blocks()}, other));
    EXPECT_EQ(pages.mixed(), 0u);
    EXPECT_TRUE(map.set({5, geometry.blocks() - 7}, state));
    EXPECT_EQ(pages.mixed(), 2u);
    EXPECT_TRUE(map.set({0, 5}, state));
    EXPECT_TRUE(map.set({geometry.blocks() - 2, 2}, state));
    EXPECT_EQ(pages.mixed(), 0u);
    for (std::size_t page = 0; page < 3; ++page) EXPECT_EQ(pages.kind(page), uniform(state));
  }
}

TEST(StateMap, needs_no_page_to_set_what_is_already_so_or_whole_pages) {
  const Geometry geometry((3 * kPage + 10) * kBlockSize, 4096);
  LimitedPages pages(4, 0);
  StateMap map(geometry, pages);
  EXPECT_TRUE(map.set({7, 3 * kPage}, BlockState::origin));
  EXPECT_TRUE(map.set({kPage, 2 * kPage}, BlockState::zero));
  EXPECT_TRUE(map.set({3 * kPage, 10}, BlockState::destination));
  EXPECT_TRUE(map.set({5, 0}, BlockState::zero));
  EXPECT_EQ(map.counts().zero, 2 * kPage);
  EXPECT_EQ(map.counts().destination, 10u);
}

TEST(StateMap, changes_nothing_when_there_is_no_room_for_a_page) {
  const Geometry geometry((3 * kPage + 10) * kBlockSize, 4096);
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    LimitedPages pages(4, 0);
    StateMap map(geometry, pages);
    Model model(geometry);
    for (int i = 0; i < 25; ++i) {
      const BlockRange range = random_range(random, geometry.blocks());
      const BlockState state = kStates[random() % kBlockStates];
      pages.set_budget(random() % 3);
      const bool done = map.set(range, state);
      if (done) model.set(range, state);
      refused += !done;
      expect_equal_counts(map, model);
    }
    expect_equal_blocks(map, model);
  }
  EXPECT_GT(refused, 20);
}

TEST(StateMap, changes_nothing_when_only_the_last_page_has_no_room) {
  const Geometry geometry(3 * kPage * kBlockSize, 4096);
  LimitedPages pages(3, 1);
  StateMap map(geometry, pages);
  EXPECT_FALSE(map.set({10, 2 * kPage}, BlockState::zero));
  EXPECT_TRUE(map.all({0, geometry.blocks()}, BlockState::origin));
  EXPECT_EQ(map.counts().origin, geometry.blocks());
  EXPECT_EQ(pages.mixed(), 0u);
  pages.set_budget(2);
  EXPECT_TRUE(map.set({10, 2 * kPage}, BlockState::zero));
  EXPECT_EQ(map.find({0, geometry.blocks()}, BlockState::zero), (BlockRange{10, 2 * kPage}));
}

TEST(StateMap, knows_which_pages_a_range_lies_on) {
  EXPECT_EQ(StateMap::pages_of({0, 1}), (BlockRange{0, 1}));
  EXPECT_EQ(StateMap::pages_of({0, kPage}), (BlockRange{0, 1}));
  EXPECT_EQ(StateMap::pages_of({kPage - 1, 2}), (BlockRange{0, 2}));
  EXPECT_EQ(StateMap::pages_of({kPage, 2 * kPage + 1}), (BlockRange{1, 3}));
  EXPECT_TRUE(StateMap::pages_of({kPage, 0}).empty());
}

TEST(StateMap, finds_three_blocks_in_sixteen_tebibytes) {
  const Geometry geometry(std::uint64_t{1} << 44, std::uint64_t{1} << 30);
  constexpr std::uint64_t kFar = (std::uint64_t{1} << 32) - 5;
  HeapStatePages pages(pages_for(geometry));
  StateMap map(geometry, pages);
  EXPECT_TRUE(map.set({kFar, 3}, BlockState::zero));
  EXPECT_EQ(map.find({0, geometry.blocks()}, BlockState::zero), (BlockRange{kFar, 3}));
  EXPECT_EQ(map.counts().zero, 3u);
}

}  // namespace
}  // namespace clonedev
