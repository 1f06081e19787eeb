#include "core/recent_misses.h"

#include <gtest/gtest.h>

namespace clonedev {
namespace {

constexpr std::uint64_t kDiskBlocks = 4096;

class RecentMissesTest : public testing::Test {
 protected:
  HeapStatePages pages_{1};
  StateMap map_{Geometry(kDiskBlocks * kBlockSize, kBlockSize), pages_};
  RecentMisses misses_;
};

TEST_F(RecentMissesTest, what_follows_a_miss_is_taken_piece_by_piece_and_has_an_end) {
  misses_.add({100, 8}, 64);
  EXPECT_EQ(misses_.take(map_, 48), (BlockRange{108, 36}));
  EXPECT_EQ(misses_.take(map_, 48), (BlockRange{144, 28}));
  EXPECT_TRUE(misses_.take(map_, 48).empty());
}

TEST_F(RecentMissesTest, the_latest_miss_comes_first) {
  misses_.add({100, 8}, 64);
  misses_.add({2000, 1}, 64);
  EXPECT_EQ(misses_.take(map_, 4096).first, 2001u);
  EXPECT_EQ(misses_.take(map_, 4096).first, 108u);
}

TEST_F(RecentMissesTest, only_what_the_origin_alone_has_is_taken) {
  ASSERT_TRUE(map_.set({100, 20}, BlockState::copied));
  ASSERT_TRUE(map_.set({130, 10}, BlockState::zero));
  misses_.add({90, 10}, 64);
  EXPECT_EQ(misses_.take(map_, 4096), (BlockRange{120, 10}));
  EXPECT_EQ(misses_.take(map_, 4096), (BlockRange{140, 24}));
  EXPECT_TRUE(misses_.take(map_, 4096).empty());
}

TEST_F(RecentMissesTest, a_stream_of_misses_gets_each_block_once) {
  misses_.add({0, 8}, 64);
  EXPECT_EQ(misses_.take(map_, 4096), (BlockRange{8, 64}));
  misses_.add({8, 8}, 64);
  EXPECT_EQ(misses_.take(map_, 4096), (BlockRange{72, 8}));
}

TEST_F(RecentMissesTest, few_places_are_remembered) {
  for (std::uint64_t i = 0; i < 20; ++i) misses_.add({i * 200, 1}, 10);
  std::size_t places = 0;
  while (!misses_.take(map_, 4096).empty()) ++places;
  EXPECT_EQ(places, RecentMisses::kPlaces);
}

TEST_F(RecentMissesTest, nothing_lies_behind_the_end_of_the_disk) {
  misses_.add({kDiskBlocks - 4, 2}, 64);
  EXPECT_EQ(misses_.take(map_, 4096), (BlockRange{kDiskBlocks - 2, 2}));
  misses_.add({kDiskBlocks - 1, 1}, 64);
  EXPECT_TRUE(misses_.take(map_, 64).empty());
}

}  // namespace
}  // namespace clonedev
