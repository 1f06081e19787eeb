// The copy-on-write tree: every depth, damage of every kind, and what uniform costs.
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "clone_fixture.h"
#include "metadata/disk_format.h"

namespace clonedev {
namespace {

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

class TreeTest : public CloneTest {
 protected:
  void open(std::uint64_t size_bytes) {
    device = MemoryDevice(metadata_bytes(size_bytes));
    format_device(device, size_bytes);
    store = attach(device);
    ASSERT_TRUE(store);
  }
  void commit() {
    const auto done = sim.run(store->commit(destination));
    ASSERT_TRUE(done) << done.error().message();
  }
  void expect_damaged(const std::string& word) {
    auto again = try_attach(device, kNextBoot);
    ASSERT_FALSE(again) << "expected: " << word;
    EXPECT_EQ(again.error().code, make_error_code(Errc::damaged));
    EXPECT_NE(again.error().message().find(word), std::string::npos) << again.error().message();
  }
  // Rewrites the newest superblock with other references.
  void rewrite_roots(const std::function<void(Superblock&)>& change) {
    auto superblock = read_one(device);
    ASSERT_TRUE(superblock);
    superblock->sequence += 1;
    change(*superblock);
    ASSERT_TRUE(sim.run(write_superblock(device, *superblock)));
  }

  MemoryDevice device{0};
  Store store;
};

TEST_F(TreeTest, states_come_back_at_every_depth) {
  for (const std::uint64_t size : {5 * kGiB - 512, 100 * kGiB, 3000 * kGiB}) {
    open(size);
    const std::uint64_t blocks = store->map().geometry().blocks();
    ASSERT_TRUE(set(*store, 0, 1));
    ASSERT_TRUE(set(*store, 3 * kPerPage - 1, 2, BlockState::zero));
    ASSERT_TRUE(set(*store, 5 * kPerPage, 2 * kPerPage));
    ASSERT_TRUE(set(*store, blocks - 1, 1));
    ASSERT_TRUE(set(*store, blocks / 2, 77));
    const Picture wanted = picture_of(store->map());
    EXPECT_NE(picture_after_power_cut(device), wanted) << "nothing is durable yet";
    commit();
    EXPECT_EQ(picture_after_power_cut(device), wanted);
    ASSERT_TRUE(set(*store, blocks - 2, 1));
    ASSERT_TRUE(set(*store, 1, kPerPage - 1));
    ASSERT_TRUE(set(*store, 0, 1, BlockState::zero));
    commit();
    EXPECT_EQ(picture_after_power_cut(device), picture_of(store->map()));
    EXPECT_FALSE(store->dirty());
  }
}

TEST_F(TreeTest, a_fresh_and_a_finished_terabyte_cost_nothing) {
  const std::uint64_t before = resident_bytes();
  device = MemoryDevice(metadata_bytes(1024 * kGiB));
  const auto start = std::chrono::steady_clock::now();
  format_device(device, 1024 * kGiB);
  store = attach(device);
  const auto took = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(store);
  EXPECT_LE(resident_bytes() - before, 8 * kMiB);
  EXPECT_LE(device.allocated(), 256u * 1024);
  EXPECT_LT(took, std::chrono::milliseconds(500)) << "50 on a quiet machine";
  RecordProperty("attach_us", static_cast<int>(took / std::chrono::microseconds(1)));
  const std::uint64_t used = store->used_units();
  ASSERT_TRUE(set(*store, 0, store->map().geometry().blocks()));
  commit();
  EXPECT_EQ(store->used_units(), used);
  EXPECT_TRUE(sim.run(store->set_complete()));
  EXPECT_TRUE(sim.run(store->detach()));
  OperationLog log;
  RecordingDevice recorded("meta", device, log);
  store = attach(recorded);
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->superblock().complete);
  for (const auto& entry : log.entries) {
    EXPECT_FALSE(entry.what == OperationLog::What::read && entry.extent.offset > 0)
        << "a page was read";
  }
}

TEST_F(TreeTest, units_are_reused_and_not_lost) {
  open(100 * kGiB);
  ASSERT_TRUE(set(*store, 0, 1));
  commit();
  const std::uint64_t used = store->used_units();
  EXPECT_EQ(used, 4u) << "two slots, a node and a page";
  for (std::uint64_t i = 1; i < 2000; ++i) {
    ASSERT_TRUE(set(*store, 2 * i, 1));
    commit();
  }
  EXPECT_EQ(store->used_units(), used);
  ASSERT_TRUE(set(*store, 0, kPerPage));
  commit();
  ASSERT_TRUE(set(*store, 0, kPerPage, BlockState::zero));
  commit();
  EXPECT_EQ(store->used_units(), 3u) << "a node and no page";
}

TEST_F(TreeTest, a_flipped_bit_in_a_page_or_a_node_is_damage_with_its_place) {
  open(100 * kGiB);
  ASSERT_TRUE(set(*store, 20 * kPerPage + 5, 1));
  commit();
  const auto flip = [&](std::uint64_t unit) {
    std::byte value;
    device.peek(unit * kUnitBytes + 1000, std::span(&value, 1));
    value ^= std::byte{4};
    device.poke(unit * kUnitBytes + 1000, std::span(&value, 1));
  };
  flip(16);
  expect_damaged("state page for bytes 1342177280..1409286143 of the disk (unit 16) has a wrong");
  flip(16);
  flip(17);
  expect_damaged("node for bytes 0..17179869183 of the disk (unit 17) has a wrong");
  flip(17);
  EXPECT_TRUE(try_attach(device, kNextBoot));
}

TEST_F(TreeTest, a_page_in_the_wrong_place_is_damage) {
  open(4 * kGiB);
  ASSERT_TRUE(set(*store, 0, 1));
  commit();
  Unit unit;
  device.peek(16 * kUnitBytes, unit.bytes);
  device.poke(20 * kUnitBytes, unit.bytes);
  rewrite_roots([](Superblock& s) { s.roots[0].where = 20; });
  expect_damaged("wrong checksum");
}

TEST_F(TreeTest, impossible_references_are_damage) {
  const struct {
    const char* word;
    void (*change)(Superblock&);
  } cases[] = {
      {"something else lies", [](Superblock& s) { s.roots[1] = s.roots[0]; }},
      {"outside", [](Superblock& s) { s.roots[0].where = s.units; }},
      {"outside", [](Superblock& s) { s.roots[0].where = 4; }},
      {"outside", [](Superblock& s) { s.roots[0].where = 15; }},
      {"checksum without a page",
       [](Superblock& s) {
         s.roots[1] = {1, 5};
       }},
      {"past the end",
       [](Superblock& s) {
         s.roots[127] = {2, 0};
       }},
      {"still need the origin", [](Superblock& s) { s.complete = true; }},
  };
  for (const auto& one : cases) {
    open(4 * kGiB);
    ASSERT_TRUE(set(*store, 0, 1));
    commit();
    rewrite_roots(one.change);
    expect_damaged(one.word);
  }
}

TEST_F(TreeTest, sealed_pages_with_states_past_the_end_are_damage) {
  open(4 * kGiB + 4096);
  PageWords words{};
  words[1] = 2;
  Unit unit;
  pack(words, unit);
  device.poke(30 * kUnitBytes, unit.bytes);
  rewrite_roots([&](Superblock& s) { s.roots[64] = {30, checksum_of(unit.bytes, 30)}; });
  expect_damaged("past the end");
}

// As many mixed pages as there can be: slack is all that is left, and commits go in steps.
TEST_F(TreeTest, a_commit_larger_than_the_free_units_goes_in_several_steps) {
  open(32 * kGiB);
  const std::uint64_t pages = pages_for(32 * kGiB);
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t page = 0; page < pages; ++page) {
      ASSERT_TRUE(set(*store, page * kPerPage + static_cast<std::uint64_t>(round), 1));
    }
    const std::uint64_t before = store->commits();
    commit();
    EXPECT_EQ(store->commits() - before > 1, round > 0) << "round " << round;
    EXPECT_FALSE(store->dirty());
    EXPECT_EQ(picture_after_power_cut(device), picture_of(store->map()));
  }
}

}  // namespace
}  // namespace clonedev
