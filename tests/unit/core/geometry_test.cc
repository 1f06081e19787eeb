#include "core/geometry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>

namespace clonedev {
namespace {

constexpr std::uint64_t kHuge = (std::uint64_t{1} << 63) - kSectorSize;  // Of odd sectors.
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

std::string text(Extent e) {
  return "[" + std::to_string(e.offset) + ", +" + std::to_string(e.length) + ")";
}

// How many bytes that exist in this block does the extent hold, counted one by one.
std::uint64_t held_bytes(std::uint64_t size, Extent extent, std::uint64_t block) {
  std::uint64_t count = 0;
  for (std::uint64_t byte = block * kBlockSize; byte < (block + 1) * kBlockSize; ++byte) {
    count += byte < size && byte >= extent.offset && byte < extent.end();
  }
  return count;
}

std::uint64_t existing_bytes(std::uint64_t size, std::uint64_t block) {
  return held_bytes(size, {0, size}, block);
}

bool in(BlockRange range, std::uint64_t block) {
  return block >= range.first && block < range.end();
}

void expect_as_counted(const Geometry& geometry, Extent extent) {
  const std::uint64_t size = geometry.size_bytes();
  const BlockRange touched = geometry.touched(extent);
  const BlockRange covered = geometry.covered(extent);
  Extent whole_blocks{};
  for (std::uint64_t block = 0; block < geometry.blocks(); ++block) {
    const std::uint64_t held = held_bytes(size, extent, block);
    const std::uint64_t existing = existing_bytes(size, block);
    EXPECT_EQ(in(touched, block), held > 0) << text(extent) << " block " << block;
    EXPECT_EQ(in(covered, block), held == existing) << text(extent) << " block " << block;
    if (held == 0) continue;
    if (whole_blocks.empty()) whole_blocks.offset = block * kBlockSize;
    whole_blocks.length += existing;
  }
  if (!extent.empty()) {
    EXPECT_EQ(geometry.aligned(extent), whole_blocks) << text(extent);
  }
}

TEST(Geometry, counts_a_short_last_block_and_region_as_one) {
  const Geometry geometry(3 * 8192 + 512, 8192);
  EXPECT_EQ(geometry.blocks(), 7u);
  EXPECT_EQ(geometry.regions(), 4u);
  EXPECT_EQ(geometry.blocks_per_region(), 2u);
}

TEST(Geometry, takes_the_short_last_block_as_covered_by_whoever_has_all_of_it) {
  const Geometry geometry(4096 + 1024, 4096);
  EXPECT_EQ(geometry.covered({4096, 1024}), (BlockRange{1, 1}));
  EXPECT_EQ(geometry.covered({0, 5120}), (BlockRange{0, 2}));
  EXPECT_TRUE(geometry.covered({4096, 512}).empty());
  EXPECT_TRUE(geometry.covered({4608, 512}).empty());
  EXPECT_EQ(geometry.bytes({1, 1}), (Extent{4096, 1024}));
  EXPECT_EQ(geometry.aligned({4608, 512}), (Extent{4096, 1024}));
}

TEST(Geometry, finds_nothing_in_an_empty_extent) {
  const Geometry geometry(5 * 4096 + 512, 4096);
  for (const std::uint64_t offset : {0u, 512u, 4096u, 20480u, 20992u}) {
    EXPECT_TRUE(geometry.touched({offset, 0}).empty()) << offset;
    EXPECT_TRUE(geometry.covered({offset, 0}).empty()) << offset;
    EXPECT_TRUE(geometry.aligned({offset, 0}).empty()) << offset;
  }
}

TEST(Geometry, agrees_with_counting_for_every_extent_of_sectors) {
  for (const std::uint64_t sectors : {1u, 7u, 8u, 9u, 23u, 24u, 31u}) {
    const std::uint64_t size = sectors * kSectorSize;
    const Geometry geometry(size, 8192);
    for (std::uint64_t first = 0; first < sectors; ++first) {
      for (std::uint64_t end = first + 1; end <= sectors; ++end) {
        expect_as_counted(geometry, {first * kSectorSize, (end - first) * kSectorSize});
      }
    }
  }
}

TEST(Geometry, agrees_with_counting_for_random_bytes) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const std::uint64_t size = 1 + random() % 30'000;
    const Geometry geometry(size, 4096);
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t offset = random() % size;
      expect_as_counted(geometry, {offset, 1 + random() % (size - offset)});
    }
  }
}

TEST(Geometry, does_the_same_at_the_far_end_of_a_huge_disk_as_on_a_small_one) {
  constexpr std::uint64_t kBase = kHuge - kGiB + kSectorSize;  // A multiple of 1 GiB.
  static_assert(kBase % kGiB == 0);
  const std::uint64_t tail = kHuge - kBase;
  const Geometry huge(kHuge, kGiB);
  const Geometry small(tail, kGiB);
  EXPECT_EQ(huge.blocks(), kBase / kBlockSize + small.blocks());
  EXPECT_EQ(huge.regions(), kBase / kGiB + 1);
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t back = 1 + random() % (i % 2 ? tail : 4 * kBlockSize);
    const std::uint64_t offset = tail - back;
    const std::uint64_t length = i % 4 < 2 ? back : 1 + random() % back;
    const Extent there{kBase + offset, length};
    const Extent here{offset, length};
    const auto moved = [](BlockRange r) {
      return BlockRange{r.first + kBase / kBlockSize, r.count};
    };
    EXPECT_EQ(huge.touched(there), moved(small.touched(here))) << text(there);
    EXPECT_EQ(huge.covered(there), moved(small.covered(here))) << text(there);
    const Extent aligned = small.aligned(here);
    EXPECT_EQ(huge.aligned(there), (Extent{kBase + aligned.offset, aligned.length})) << text(there);
  }
}

TEST(Geometry, holds_a_huge_disk_in_one_extent) {
  const Geometry geometry(kHuge, 4096);
  EXPECT_EQ(geometry.blocks(), std::uint64_t{1} << 51);
  EXPECT_EQ(geometry.covered({0, kHuge}), (BlockRange{0, geometry.blocks()}));
  EXPECT_EQ(geometry.bytes({0, geometry.blocks()}), (Extent{0, kHuge}));
  EXPECT_EQ(geometry.bytes({geometry.blocks() - 1, 1}).length, kBlockSize - kSectorSize);
}

TEST(Extent, intersects_and_overlaps_as_counting_does) {
  constexpr std::uint64_t kEnd = 7;
  for (std::uint64_t bits = 0; bits < 4096; ++bits) {
    const Extent a{bits & 7, 1 + (bits >> 3 & 7)};
    const Extent b{bits >> 6 & 7, 1 + (bits >> 9 & 7)};
    std::uint64_t common = 0;
    for (std::uint64_t at = 0; at < 2 * (kEnd + 1); ++at) {
      common += at >= a.offset && at < a.end() && at >= b.offset && at < b.end();
    }
    EXPECT_EQ(intersect(a, b).length, common) << text(a) << text(b);
    EXPECT_EQ(a.overlaps(b), common > 0) << text(a) << text(b);
    EXPECT_EQ(b.overlaps(a), common > 0) << text(a) << text(b);
  }
}

}  // namespace
}  // namespace clonedev
