// check_metadata(): damage of every kind is told with its place, the rest is still counted, and
// nothing is written.
#include <gtest/gtest.h>

#include <random>

#include "clone_fixture.h"
#include "metadata/disk_format.h"
#include "metadata/metadata_check.h"
#include "support/faulty_device.h"

namespace clonedev {
namespace {

std::uint64_t of(const MetadataReport& report, BlockState state) {
  return report.blocks[static_cast<std::size_t>(state)];
}

class CheckTest : public CloneTest {
 protected:
  // 100 GiB: nodes between the superblock and the pages. Some pages are mixed, some uniform.
  void make() {
    device = MemoryDevice(metadata_bytes(kSize));
    format_device(device, kSize);
    auto store = attach(device);
    ASSERT_TRUE(store);
    ASSERT_TRUE(set(*store, 5, 7));
    ASSERT_TRUE(set(*store, 20 * kPerPage + 5, 11));
    ASSERT_TRUE(set(*store, 21 * kPerPage, 13, BlockState::zero));
    ASSERT_TRUE(set(*store, 400 * kPerPage, kPerPage));
    ASSERT_TRUE(set(*store, 600 * kPerPage + 1, 17));
    ASSERT_TRUE(sim.run(store->commit(destination)));
    ASSERT_TRUE(sim.run(store->detach()));
  }
  MetadataReport check(BlockDevice& what) {
    auto report = sim.run(check_metadata(what));
    EXPECT_TRUE(report) << report.error().message();
    return report ? std::move(*report) : MetadataReport{};
  }
  MetadataReport check() { return check(device); }
  // The unit that holds a state page, found by its reference.
  std::uint64_t unit_of_page(std::size_t page) {
    auto superblock = read_one(device);
    const PageTable::PageSink sink = [](std::size_t, const PageWords&) -> Result<> { return {}; };
    Unit node;
    device.peek(superblock->roots[page / kNodeRefs].where * kUnitBytes, node.bytes);
    std::array<PageRef, kNodeRefs> refs;
    unpack(node, refs);
    return refs[page % kNodeRefs].where;
  }
  void flip(std::uint64_t offset, unsigned bit = 2) {
    std::byte value;
    device.peek(offset, std::span(&value, 1));
    value ^= static_cast<std::byte>(1u << bit);
    device.poke(offset, std::span(&value, 1));
  }

  static constexpr std::uint64_t kSize = 100 * kGiB;
  MemoryDevice device{0};
};

TEST_F(CheckTest, sound_metadata_have_no_findings_and_nothing_is_written) {
  make();
  OperationLog log;
  RecordingDevice recorded("meta", device, log);
  const MetadataReport report = check(recorded);
  EXPECT_TRUE(report.findings.empty()) << report.findings[0].text;
  EXPECT_FALSE(report.damaged());
  ASSERT_TRUE(report.superblock);
  EXPECT_TRUE(report.superblock->clean);
  EXPECT_EQ(of(report, BlockState::destination), 7 + 11 + kPerPage + 17);
  EXPECT_EQ(of(report, BlockState::zero), 13u);
  EXPECT_EQ(of(report, BlockState::origin), kSize / kBlockSize - (7 + 11 + kPerPage + 17) - 13);
  EXPECT_EQ(report.used_units, 2u + 3 + 4);
  for (const auto& entry : log.entries) EXPECT_EQ(entry.what, OperationLog::What::read);
}

TEST_F(CheckTest, every_damaged_page_is_told_with_its_bytes_and_the_rest_is_counted) {
  make();
  flip(unit_of_page(20) * kUnitBytes + 1000);
  flip(unit_of_page(21) * kUnitBytes + 9);
  flip(unit_of_page(600) * kUnitBytes);
  const MetadataReport report = check();
  EXPECT_TRUE(report.damaged());
  EXPECT_EQ(report.findings.size(), 3u);
  const std::vector<Extent> lost{{20 * kPageCoversBytes, 2 * kPageCoversBytes},
                                 {600 * kPageCoversBytes, kPageCoversBytes}};
  EXPECT_EQ(report.lost, lost);
  EXPECT_EQ(of(report, BlockState::destination), 7 + kPerPage);
  EXPECT_NE(report.findings[0].text.find("bytes 1342177280..1409286143"), std::string::npos);
}

TEST_F(CheckTest, a_damaged_node_loses_all_that_is_below_it) {
  make();
  flip(read_one(device)->roots[2].where * kUnitBytes + 77);
  const MetadataReport report = check();
  const std::vector<Extent> lost{{512 * kPageCoversBytes, 256 * kPageCoversBytes}};
  EXPECT_EQ(report.lost, lost);
  EXPECT_EQ(of(report, BlockState::destination), 7 + 11 + kPerPage);
}

TEST_F(CheckTest, a_unit_that_cannot_be_read_does_not_take_the_others_with_it) {
  make();
  FaultyDevice faulty(device);
  faulty.add({.kinds = FaultyDevice::kRead, .range = {unit_of_page(21) * kUnitBytes, kUnitBytes}});
  const MetadataReport report = check(faulty);
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_NE(report.findings[0].text.find("reading unit"), std::string::npos);
  const std::vector<Extent> lost{{21 * kPageCoversBytes, kPageCoversBytes}};
  EXPECT_EQ(report.lost, lost);
  EXPECT_EQ(of(report, BlockState::destination), 7 + 11 + kPerPage + 17);
}

TEST_F(CheckTest, a_unit_that_two_references_lead_to_is_damage) {
  make();
  auto superblock = *read_one(device);
  superblock.roots[1] = superblock.roots[0];
  superblock.sequence += 1;
  ASSERT_TRUE(sim.run(write_superblock(device, superblock)));
  const MetadataReport report = check();
  const std::vector<Extent> lost{{0, 512 * kPageCoversBytes}};
  EXPECT_EQ(report.lost, lost) << "nobody knows which of the two is right";
}

TEST_F(CheckTest, one_torn_slot_is_a_note_and_two_are_damage) {
  make();
  const std::uint64_t used = read_one(device)->sequence % 2;
  flip((1 - used) * kUnitBytes + 300);
  MetadataReport report = check();
  EXPECT_FALSE(report.damaged());
  ASSERT_EQ(report.findings.size(), 1u);
  EXPECT_EQ(report.findings[0].weight, Finding::Weight::note);
  flip(used * kUnitBytes + 300);
  report = check();
  EXPECT_TRUE(report.damaged());
  EXPECT_FALSE(report.superblock);
}

TEST_F(CheckTest, needs_check_and_a_false_complete_are_damage) {
  for (const bool complete : {false, true}) {
    make();
    auto superblock = *read_one(device);
    superblock.sequence += 1;
    superblock.complete = complete;
    superblock.needs_check = !complete;
    superblock.reason = "a flush failed";
    ASSERT_TRUE(sim.run(write_superblock(device, superblock)));
    const MetadataReport report = check();
    EXPECT_TRUE(report.damaged());
    EXPECT_TRUE(report.lost.empty());
    EXPECT_NE(report.findings[0].text.find(complete ? "marked complete" : "a flush failed"),
              std::string::npos)
        << report.findings[0].text;
  }
}

TEST_F(CheckTest, what_is_no_metadata_at_all_is_damage) {
  device = MemoryDevice(0);
  EXPECT_TRUE(check().damaged());
  device = MemoryDevice(kMiB);
  EXPECT_TRUE(check().damaged());
  flip(70000);
  EXPECT_TRUE(check().damaged());
}

// Wherever a bit flips: found, or of no consequence.
TEST_F(CheckTest, no_flipped_bit_makes_another_map_that_looks_sound) {
  make();
  const MemoryDevice whole = device;
  const MetadataReport before = check();
  const std::uint64_t used = 16 + before.used_units - 2;
  std::mt19937_64 random(20261125);
  int found = 0;
  for (int i = 0; i < 1000; ++i) {
    device = whole;
    const std::uint64_t at = random() % (used * kUnitBytes);
    flip(at, static_cast<unsigned>(random() % 8));
    const MetadataReport report = check();
    found += report.damaged();
    if (report.damaged()) continue;
    EXPECT_EQ(report.blocks, before.blocks) << "seed 20261125, flip " << i << " at byte " << at;
    EXPECT_EQ(report.superblock->roots, before.superblock->roots);
  }
  EXPECT_GT(found, 200);
}

}  // namespace
}  // namespace clonedev
