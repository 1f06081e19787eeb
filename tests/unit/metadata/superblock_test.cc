#include "metadata/superblock.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "clone_fixture.h"
#include "metadata/disk_format.h"
#include "support/faulty_device.h"

namespace clonedev {
namespace {

class SuperblockTest : public CloneTest {
 protected:
  void SetUp() override { format_device(device, 4 * kGiB); }

  Unit unit(std::uint64_t number) {
    Unit unit;
    device.peek(number * kUnitBytes, unit.bytes);
    return unit;
  }
  void put(std::uint64_t number, const Unit& unit) { device.poke(number * kUnitBytes, unit.bytes); }
  void spoil(std::uint64_t slot) {
    Unit one = unit(slot);
    one.bytes[200] ^= std::byte{1};
    put(slot, one);
  }
  // Changes a field behind the checksum's back, and seals it again, in both slots.
  void rewrite(const std::function<void(DiskSuperblock&)>& change) {
    for (const std::uint64_t slot : {0u, 1u}) {
      Unit one = unit(slot);
      DiskSuperblock disk;
      std::memcpy(&disk, one.bytes.data(), kUnitBytes);
      change(disk);
      std::memcpy(one.bytes.data(), &disk, kUnitBytes);
      const Le64 sum(checksum_of(std::span(one.bytes).first(4088), slot));
      std::memcpy(one.bytes.data() + 4088, &sum, 8);
      put(slot, one);
    }
  }
  void expect_refused(Errc code, const std::string& word) {
    const auto found = sim.run(read_superblock(device));
    ASSERT_FALSE(found) << "expected: " << word;
    EXPECT_EQ(found.error().code, make_error_code(code)) << found.error().message();
    EXPECT_NE(found.error().message().find(word), std::string::npos) << found.error().message();
  }

  MemoryDevice device{metadata_bytes(4 * kGiB)};
};

TEST_F(SuperblockTest, format_makes_two_valid_slots_and_everything_origin) {
  const auto found = read_one(device);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->sequence, 2u);
  EXPECT_TRUE(found->clean);
  EXPECT_EQ(found->name, "vm1");
  EXPECT_EQ(found->units, units_for(4 * kGiB));
  EXPECT_EQ(look_at_slot(unit(0), 0), SlotContent::sealed);
  EXPECT_EQ(look_at_slot(unit(1), 1), SlotContent::sealed);
}

TEST_F(SuperblockTest, blank_is_nothing_but_zeroes_at_the_head) {
  MemoryDevice blank(kMiB);
  const auto found = sim.run(read_superblock(blank));
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_FALSE(*found);
  MemoryDevice empty(0);
  const auto none = sim.run(read_superblock(empty));
  ASSERT_TRUE(none);
  EXPECT_FALSE(*none);
}

// Btrfs signs at 64 KiB and leaves zeroes before.
TEST_F(SuperblockTest, something_else_is_foreign_even_behind_zeroes) {
  for (const std::uint64_t where : {0u, 510u, 4096u, 65600u}) {
    device = MemoryDevice(metadata_bytes(4 * kGiB));
    const std::byte mark{0x55};
    device.poke(where, std::span(&mark, 1));
    expect_refused(Errc::foreign, "not tcmu-clone metadata");
  }
}

TEST_F(SuperblockTest, one_bad_slot_leaves_the_other) {
  for (const std::uint64_t slot : {0u, 1u}) {
    format_device(device, 4 * kGiB);
    spoil(slot);
    const auto found = read_one(device);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(found->sequence, slot == 0 ? 1u : 2u);
  }
}

TEST_F(SuperblockTest, two_bad_slots_are_damage) {
  spoil(0);
  spoil(1);
  expect_refused(Errc::damaged, "wrong checksum");
}

TEST_F(SuperblockTest, unfinished_creation_is_refused_by_name) {
  spoil(1);
  put(0, Unit{});
  expect_refused(Errc::damaged, "creation was interrupted");
}

TEST_F(SuperblockTest, newer_version_is_refused) {
  rewrite([](DiskSuperblock& disk) { disk.version = Le32(2); });
  expect_refused(Errc::refused, "newer");
}

TEST_F(SuperblockTest, newer_version_in_one_slot_is_refused_too) {
  const Unit old = unit(1);
  rewrite([](DiskSuperblock& disk) { disk.version = Le32(2); });
  put(1, old);
  expect_refused(Errc::refused, "newer");
}

TEST_F(SuperblockTest, unknown_incompat_feature_is_refused_and_compat_is_not) {
  rewrite([](DiskSuperblock& disk) { disk.compat = Le32(1); });
  EXPECT_TRUE(read_one(device));
  rewrite([](DiskSuperblock& disk) { disk.incompat = Le32(8); });
  expect_refused(Errc::refused, "0x8");
}

TEST_F(SuperblockTest, sealed_nonsense_is_refused_with_what_is_wrong) {
  const struct {
    const char* word;
    void (*change)(DiskSuperblock&);
  } cases[] = {
      {"disk of 0 bytes", [](DiskSuperblock& d) { d.size_bytes = Le64(0); }},
      {"disk of 513 bytes", [](DiskSuperblock& d) { d.size_bytes = Le64(513); }},
      {"impossible", [](DiskSuperblock& d) { d.size_bytes = Le64(std::uint64_t{1} << 62); }},
      {"region size", [](DiskSuperblock& d) { d.region_size = Le64(5000); }},
      {"region size", [](DiskSuperblock& d) { d.region_size = Le64(2048); }},
      {"depth 1", [](DiskSuperblock& d) { d.depth = Le32(1); }},
      {"units", [](DiskSuperblock& d) { d.units = Le64(20); }},
      {"cut short", [](DiskSuperblock& d) { d.units = Le64(100000); }},
      {"flags 0x10", [](DiskSuperblock& d) { d.flags = Le32(16); }},
      {"other slot", [](DiskSuperblock& d) { d.sequence = Le64(d.sequence.value() + 1); }},
      {"name of the clone has no end", [](DiskSuperblock& d) { d.name.fill('x'); }},
      {"no name", [](DiskSuperblock& d) { d.name = {}; }},
      {"identity", [](DiskSuperblock& d) { d.origin_identity.fill('x'); }},
      {"identity", [](DiskSuperblock& d) { d.destination_identity.fill('x'); }},
      {"reason", [](DiskSuperblock& d) { d.reason.fill('x'); }},
  };
  for (const auto& one : cases) {
    format_device(device, 4 * kGiB);
    rewrite(one.change);
    expect_refused(Errc::damaged, one.word);
  }
}

TEST_F(SuperblockTest, slots_of_two_clones_are_refused) {
  const Unit old = unit(0);
  Superblock other = new_superblock(4 * kGiB);
  other.uuid = id_of(9);
  ASSERT_TRUE(sim.run(format(device, std::move(other))));
  put(0, old);
  expect_refused(Errc::damaged, "different clones");
}

TEST_F(SuperblockTest, the_later_slot_may_say_that_the_disk_has_grown_and_never_that_it_shrank) {
  Superblock superblock = *read_one(device);
  superblock.sequence += 1;
  superblock.size_bytes -= 512;
  ASSERT_TRUE(sim.run(write_superblock(device, superblock)));
  expect_refused(Errc::damaged, "different clones");
  superblock.size_bytes += 1024;
  superblock.units -= 1;
  ASSERT_TRUE(sim.run(write_superblock(device, superblock)));
  expect_refused(Errc::damaged, "different clones");
  superblock.units += 1;
  ASSERT_TRUE(sim.run(write_superblock(device, superblock)));
  const auto found = read_one(device);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->size_bytes, 4 * kGiB + 512);
}

TEST_F(SuperblockTest, unreadable_slot_is_an_error_and_not_a_rollback) {
  FaultyDevice faulty(device);
  faulty.add({.kinds = FaultyDevice::kRead, .range = {0, 512}});
  const auto found = sim.run(read_superblock(faulty));
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, make_error_code(Errc::metadata_io));
}

TEST_F(SuperblockTest, device_that_is_too_small_is_not_formatted) {
  MemoryDevice small(64 * 1024);
  Superblock superblock = new_superblock(4 * kGiB);
  const auto done = sim.run(format(small, std::move(superblock)));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, make_error_code(Errc::no_space));
  EXPECT_EQ(small.allocated(), 0u);
}

// Over blank space and over an older clone: whatever the crash leaves is blank, valid (old or
// new), or refused; it is never opened as something in between.
TEST_F(SuperblockTest, format_may_crash_anywhere) {
  int blank = 0, old = 0, fresh = 0, refused = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    VolatileDevice disk(seed % 2 ? device : MemoryDevice(metadata_bytes(4 * kGiB)));
    OperationLog log;
    RecordingDevice recorded("meta", disk, log);
    std::vector<MemoryDevice> images;
    log.listener = [&](const OperationLog::Entry&) {
      images.push_back(
          disk.image({.seed = seed * 100 + images.size(), .lose_units = seed % 3 == 0}));
    };
    Superblock superblock = new_superblock(4 * kGiB);
    superblock.uuid = id_of(9);
    ASSERT_TRUE(sim.run(format(recorded, std::move(superblock))));
    for (MemoryDevice& image : images) {
      const auto found = sim.run(read_superblock(image));
      if (!found) {
        EXPECT_TRUE(found.error().code == make_error_code(Errc::damaged) ||
                    found.error().code == make_error_code(Errc::foreign));
        ++refused;
      } else if (!*found) {
        EXPECT_EQ(seed % 2 && log.entries.size() < 2, false);
        ++blank;
      } else {
        ((*found)->uuid == id_of(9) ? fresh : old) += 1;
      }
    }
    const auto last = sim.run(read_superblock(images.back()));
    ASSERT_TRUE(last && *last && (*last)->uuid == id_of(9)) << "seed " << seed;
  }
  EXPECT_GT(blank, 0);
  EXPECT_GT(old, 0);
  EXPECT_GT(fresh, 0);
  EXPECT_GT(refused, 0);
}

TEST(Layout, reserves_what_the_design_promises) {
  EXPECT_LE(metadata_bytes(1024 * kGiB), 72 * kMiB);
  EXPECT_LE(metadata_bytes(512 * kMiB), 512 * 1024u);
  EXPECT_EQ(depth_for(pages_for(8 * kGiB)), 0u);
  EXPECT_EQ(depth_for(pages_for(8 * kGiB + 512)), 1u);
  EXPECT_EQ(depth_for(pages_for(2048 * kGiB)), 1u);
  EXPECT_EQ(depth_for(pages_for(2048 * kGiB + 512)), 2u);
  EXPECT_EQ(depth_for(pages_for(kMaxDiskBytes)), kMaxDepth);
  EXPECT_EQ(nodes_for(pages_for(1024 * kGiB)), 64u);
}

}  // namespace
}  // namespace clonedev
