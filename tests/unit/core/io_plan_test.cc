#include "core/io_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace clonedev {
namespace {

constexpr std::uint64_t kBlocks = 24;
constexpr std::uint64_t kSectorsPerBlock = kBlockSize / kSectorSize;
constexpr BlockState kEveryState[] = {BlockState::origin, BlockState::zero, BlockState::destination,
                                      BlockState::copied};

// A small disk in random states, by sectors. A sector is a letter: what a reader of it sees.
struct Disk {
  Disk(std::uint64_t sectors, std::mt19937_64& random)
      : geometry(sectors * kSectorSize, 4096), pages(1), map(geometry, pages) {
    for (std::uint64_t block = 0; block < geometry.blocks();) {
      const std::uint64_t run = std::min(1 + random() % 4, geometry.blocks() - block);
      EXPECT_TRUE(map.set({block, run}, kEveryState[random() % kBlockStates]));
      block += run;
    }
    destination.assign(sectors, 'd');
  }

  char visible(std::uint64_t sector) const {
    return from(map.at(sector / kSectorsPerBlock), sector);
  }
  char from(BlockState source, std::uint64_t sector) const {
    if (source == BlockState::origin) return 'o';
    return source == BlockState::zero ? '0' : destination[sector];
  }
  std::string view() const {
    std::string all;
    for (std::uint64_t sector = 0; sector < destination.size(); ++sector) all += visible(sector);
    return all;
  }

  Geometry geometry;
  HeapStatePages pages;
  StateMap map;
  std::string destination;
};

Extent random_sectors(std::mt19937_64& random, std::uint64_t sectors) {
  const std::uint64_t first = random() % sectors;
  const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(sectors - first, 40);
  return {first * kSectorSize, count * kSectorSize};
}

std::string in_sectors(Extent e) {
  return "sectors [" + std::to_string(e.offset / 512) + ", +" + std::to_string(e.length / 512) +
         ")";
}

template <class F>
void for_sectors(Extent extent, F&& f) {
  for (std::uint64_t at = extent.offset; at < extent.end(); at += kSectorSize) f(at / kSectorSize);
}

// Calls check(disk, extent) for many random disks and extents, printing what it was that failed.
template <class Check>
void with_random_disks(Check&& check) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    const std::uint64_t sectors = (kBlocks - 1) * kSectorsPerBlock + 1 + random() % 8;
    for (int i = 0; i < 30; ++i) {
      Disk disk(sectors, random);
      const Extent extent = random_sectors(random, sectors);
      SCOPED_TRACE("seed " + std::to_string(seed) + " " + in_sectors(extent) + "\n" + disk.view());
      check(disk, extent);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(PlanRead, takes_every_sector_from_where_it_is_in_order_and_in_the_longest_runs) {
  with_random_disks([](const Disk& disk, Extent extent) {
    std::uint64_t at = extent.offset;
    const std::vector<ReadStep> steps = plan_read(disk.map, extent);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      EXPECT_EQ(steps[i].extent.offset, at);
      EXPECT_FALSE(steps[i].extent.empty());
      if (i > 0) {
        EXPECT_NE(steps[i].source, steps[i - 1].source);
      }
      for_sectors(steps[i].extent, [&](std::uint64_t sector) {
        EXPECT_EQ(authority_of(disk.map.at(sector / kSectorsPerBlock)), steps[i].source);
      });
      at = steps[i].extent.end();
    }
    EXPECT_EQ(at, extent.end());
  });
}

TEST(PlanRead, of_nothing_is_nothing) {
  std::mt19937_64 random(1);
  const Disk disk(80, random);
  EXPECT_TRUE(plan_read(disk.map, {4096, 0}).empty());
}

// Does what the plan says: fills the edges, writes, makes the touched blocks `destination`.
void carry_out(Disk& disk, const WritePlan& plan, Extent extent) {
  for (const auto& edge : {plan.head, plan.tail}) {
    if (!edge) continue;
    for_sectors(disk.geometry.bytes({edge->block, 1}), [&](std::uint64_t sector) {
      disk.destination[sector] = disk.from(edge->rest, sector);
    });
  }
  for_sectors(extent, [&](std::uint64_t sector) { disk.destination[sector] = 'w'; });
  EXPECT_TRUE(disk.map.set(disk.geometry.touched(extent), BlockState::destination));
}

TEST(PlanWrite, changes_the_sectors_written_and_no_other) {
  for (const std::uint32_t sector_size : {512u, 4096u}) {
    with_random_disks([sector_size](Disk& disk, Extent extent) {
      std::string expected = disk.view();
      for_sectors(extent, [&](std::uint64_t sector) { expected[sector] = 'w'; });
      const WritePlan plan = plan_write(disk.map, extent, sector_size);
      EXPECT_EQ(plan.aligned, disk.geometry.aligned(extent));
      carry_out(disk, plan, extent);
      EXPECT_EQ(disk.view(), expected);
    });
  }
}

// Whether a block must be filled, sector by sector.
bool must_fill(const Disk& disk, Extent extent, std::uint64_t block, std::uint32_t sector_size) {
  bool partial = false;
  for_sectors(disk.geometry.bytes({block, 1}), [&](std::uint64_t sector) {
    const std::uint64_t at = sector * kSectorSize;
    partial = partial || at < extent.offset || at >= extent.end();
  });
  return partial &&
         (authority_of(disk.map.at(block)) != BlockState::destination || sector_size == 4096);
}

TEST(PlanWrite, fills_a_block_only_where_it_must) {
  for (const std::uint32_t sector_size : {512u, 4096u}) {
    with_random_disks([sector_size](const Disk& disk, Extent extent) {
      const WritePlan plan = plan_write(disk.map, extent, sector_size);
      const BlockRange touched = disk.geometry.touched(extent);
      const std::uint64_t first = touched.first;
      const std::uint64_t last = touched.end() - 1;
      EXPECT_EQ(plan.head.has_value(), must_fill(disk, extent, first, sector_size));
      EXPECT_EQ(plan.tail.has_value(), last != first && must_fill(disk, extent, last, sector_size));
      EXPECT_EQ(plan.direct(), !plan.head && !plan.tail);
      bool origin = false;
      for (const auto& edge : {plan.head, plan.tail}) {
        if (!edge) continue;
        EXPECT_EQ(edge->rest, authority_of(disk.map.at(edge->block)));
        EXPECT_TRUE(edge->block == first || edge->block == last);
        origin = origin || edge->rest == BlockState::origin;
      }
      EXPECT_EQ(plan.needs_origin(), origin);
    });
  }
}

TEST(PlanWrite, never_needs_the_origin_for_an_aligned_write) {
  with_random_disks([](const Disk& disk, Extent extent) {
    const Extent aligned = disk.geometry.aligned(extent);
    EXPECT_TRUE(plan_write(disk.map, aligned, 512).direct());
    EXPECT_TRUE(plan_write(disk.map, aligned, 4096).direct());
  });
}

TEST(PlanWrite, of_nothing_is_direct) {
  std::mt19937_64 random(1);
  const Disk disk(80, random);
  EXPECT_TRUE(plan_write(disk.map, {512, 0}, 512).direct());
}

TEST(PlanZero, gives_every_sector_to_the_blocks_or_to_one_edge) {
  with_random_disks([](const Disk& disk, Extent extent) {
    const ZeroPlan plan = plan_zero(disk.geometry, extent);
    std::vector<int> times(disk.destination.size());
    for (const Extent part : {plan.head, disk.geometry.bytes(plan.blocks), plan.tail}) {
      if (part.empty()) continue;
      for_sectors(part, [&](std::uint64_t sector) { ++times[sector]; });
    }
    for (std::uint64_t sector = 0; sector < times.size(); ++sector) {
      const std::uint64_t at = sector * kSectorSize;
      EXPECT_EQ(times[sector], at >= extent.offset && at < extent.end()) << sector;
    }
  });
}

TEST(PlanZero, takes_all_blocks_that_are_whole_and_writes_less_than_a_block_at_each_edge) {
  with_random_disks([](const Disk& disk, Extent extent) {
    const ZeroPlan plan = plan_zero(disk.geometry, extent);
    EXPECT_EQ(plan.blocks.count, disk.geometry.covered(extent).count);
    if (plan.blocks.empty()) {
      EXPECT_EQ(plan.head, extent);
      EXPECT_TRUE(plan.tail.empty());
      return;
    }
    EXPECT_LT(plan.head.length, kBlockSize);
    EXPECT_LT(plan.tail.length, kBlockSize);
  });
}

TEST(PlanZero, takes_a_short_last_block_whole) {
  const Geometry geometry(2 * 4096 + 512, 4096);
  const ZeroPlan plan = plan_zero(geometry, {4096 + 512, 4096});
  EXPECT_EQ(plan.blocks, (BlockRange{2, 1}));
  EXPECT_EQ(plan.head, (Extent{4608, 3584}));
  EXPECT_TRUE(plan.tail.empty());
}

}  // namespace
}  // namespace clonedev
