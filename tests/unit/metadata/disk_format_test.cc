#include "metadata/disk_format.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "clone_fixture.h"
#include "metadata/page_content.h"

namespace clonedev {
namespace {

Superblock sample() {
  Superblock core = new_superblock(3 * kGiB);
  core.sequence = 0x0102030405060709;
  core.units = units_for(core.size_bytes);
  core.attach_id = id_of(1);
  core.boot_id = id_of(2);
  core.machine_id = id_of(3);
  core.clean = false;
  core.needs_check = true;
  core.reason = "the disk fell off";
  core.roots[5] = {99, 0xfeedfacecafebeef};
  return core;
}

std::uint8_t byte_at(const Unit& unit, std::size_t offset) {
  return static_cast<std::uint8_t>(unit.bytes[offset]);
}

TEST(DiskFormat, numbers_are_little_endian_whatever_the_machine) {
  const Le32 value(0x11223344);
  std::array<std::uint8_t, 4> bytes;
  std::memcpy(bytes.data(), &value, 4);
  EXPECT_EQ(bytes, (std::array<std::uint8_t, 4>{0x44, 0x33, 0x22, 0x11}));
  EXPECT_EQ(value.value(), 0x11223344u);
  static_assert(!std::is_convertible_v<std::uint64_t, Le64> &&
                !std::is_convertible_v<Le64, std::uint64_t>);
}

TEST(DiskFormat, superblock_survives_a_round_trip) {
  const Superblock core = sample();
  Unit unit;
  pack(core, unit);
  ASSERT_EQ(look_at_slot(unit, 1), SlotContent::sealed);
  const auto back = unpack_superblock(unit, 1);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(back->sequence, core.sequence);
  EXPECT_EQ(back->uuid, core.uuid);
  EXPECT_EQ(back->name, core.name);
  EXPECT_EQ(back->size_bytes, core.size_bytes);
  EXPECT_EQ(back->region_size, core.region_size);
  EXPECT_EQ(back->units, core.units);
  EXPECT_EQ(back->depth, core.depth);
  EXPECT_EQ(back->attach_id, core.attach_id);
  EXPECT_EQ(back->boot_id, core.boot_id);
  EXPECT_EQ(back->machine_id, core.machine_id);
  EXPECT_FALSE(back->clean);
  EXPECT_FALSE(back->complete);
  EXPECT_TRUE(back->needs_check);
  EXPECT_EQ(back->reason, core.reason);
  EXPECT_EQ(back->origin_size, core.origin_size);
  EXPECT_EQ(back->origin_identity, core.origin_identity);
  EXPECT_EQ(back->destination_identity, core.destination_identity);
  EXPECT_EQ(back->roots, core.roots);
}

// The offsets of docs/metadata-format.md, by hand.
TEST(DiskFormat, superblock_fields_lie_where_the_document_says) {
  Unit unit;
  pack(sample(), unit);
  EXPECT_EQ(std::memcmp(unit.bytes.data(), "tcmuclon\x01\0\0\0\0\0\0\0\0\0\0\0", 20), 0);
  EXPECT_EQ(byte_at(unit, 20), 4);  // needs_check, not clean
  EXPECT_EQ(byte_at(unit, 24), 0x09);
  EXPECT_EQ(byte_at(unit, 31), 0x01);
  EXPECT_EQ(byte_at(unit, 32), 7);
  EXPECT_EQ(byte_at(unit, 48), 1);
  EXPECT_EQ(byte_at(unit, 64), 2);
  EXPECT_EQ(byte_at(unit, 80), 3);
  EXPECT_EQ(byte_at(unit, 99), 0xc0);  // 3 GiB = 0xc0000000
  EXPECT_EQ(byte_at(unit, 105), 0x10);
  EXPECT_EQ(std::memcmp(unit.bytes.data() + 136, "vm1", 4), 0);
  EXPECT_EQ(std::memcmp(unit.bytes.data() + 264, "origin", 7), 0);
  EXPECT_EQ(std::memcmp(unit.bytes.data() + 520, "destination", 12), 0);
  EXPECT_EQ(std::memcmp(unit.bytes.data() + 776, "the disk", 8), 0);
  EXPECT_EQ(byte_at(unit, 2040 + 5 * 16), 99);
  EXPECT_EQ(byte_at(unit, 2040 + 5 * 16 + 8), 0xef);
  std::uint64_t stored = 0;
  std::memcpy(&stored, unit.bytes.data() + 4088, 8);
  EXPECT_EQ(stored, XXH3_64bits_withSeed(unit.bytes.data(), 4088, 1));
}

TEST(DiskFormat, every_single_flipped_bit_of_a_superblock_is_seen) {
  Unit unit;
  pack(sample(), unit);
  for (std::size_t bit = 0; bit < kUnitBytes * 8; ++bit) {
    unit.bytes[bit / 8] ^= std::byte{1} << bit % 8;
    ASSERT_NE(look_at_slot(unit, 1), SlotContent::sealed) << "bit " << bit;
    unit.bytes[bit / 8] ^= std::byte{1} << bit % 8;
  }
  EXPECT_EQ(look_at_slot(unit, 1), SlotContent::sealed);
}

TEST(DiskFormat, superblock_in_the_wrong_slot_is_not_sealed) {
  Unit unit;
  pack(sample(), unit);
  EXPECT_EQ(look_at_slot(unit, 0), SlotContent::torn);
}

TEST(DiskFormat, texts_that_are_too_long_are_cut_and_still_end) {
  Superblock core = sample();
  core.name = std::string(500, 'n');
  core.reason = std::string(500, 'r');
  Unit unit;
  pack(core, unit);
  const auto back = unpack_superblock(unit, 1);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(back->name, std::string(Superblock::kMaxName, 'n'));
  EXPECT_EQ(back->reason, std::string(Superblock::kMaxText, 'r'));
}

TEST(DiskFormat, state_page_is_the_words_in_little_endian) {
  PageWords words{};
  words[1] = 0x8000000000000002;
  Unit unit;
  pack(words, unit);
  EXPECT_EQ(byte_at(unit, 8), 2);
  EXPECT_EQ(byte_at(unit, 15), 0x80);
  PageWords back;
  unpack(unit, back);
  EXPECT_EQ(back, words);
}

TEST(PageContent, states_past_the_end_of_the_disk_are_found) {
  PageWords words{};
  EXPECT_EQ(fault_of(words, kPerPage), nullptr);
  words[511] = std::uint64_t{2} << 62;
  EXPECT_EQ(fault_of(words, kPerPage), nullptr);
  EXPECT_NE(fault_of(words, kPerPage - 1), nullptr);
}

TEST(PageContent, copies_are_canonical) {
  HeapStatePages pages(1);
  ASSERT_TRUE(pages.allocate(0, repeated(BlockState::destination)));
  pages.set_kind(0, PageKind::mixed);
  EXPECT_EQ(copy_of(pages, 0, 100).kind, PageKind::destination);
  pages.words(0)[0] = 0;
  const PageContent mixed = copy_of(pages, 0, 100);
  ASSERT_EQ(mixed.kind, PageKind::mixed);
  EXPECT_EQ((*mixed.words)[4], 0u) << "past the end there are zeroes";
  EXPECT_TRUE(same(pages, 0, mixed, 100));
  EXPECT_TRUE(all_in(mixed, {32, 68}, BlockState::destination));
  EXPECT_FALSE(all_in(mixed, {31, 2}, BlockState::destination));
}

TEST(PageContent, copied_has_the_authority_of_the_destination) {
  PageContent content{PageKind::copied, nullptr};
  EXPECT_TRUE(all_with_authority(content, {0, 100}, BlockState::destination));
  EXPECT_FALSE(all_in(content, {0, 100}, BlockState::destination));
  EXPECT_FALSE(all_with_authority(content, {0, 100}, BlockState::zero));
  content = {PageKind::mixed, std::make_unique<PageWords>()};
  (*content.words)[0] = 0b01'00'11'10;
  EXPECT_TRUE(all_with_authority(content, {0, 2}, BlockState::destination));
  EXPECT_FALSE(all_with_authority(content, {0, 3}, BlockState::destination));
  EXPECT_TRUE(all_with_authority(content, {2, 1}, BlockState::origin));
  EXPECT_TRUE(all_with_authority(content, {3, 1}, BlockState::zero));
}

}  // namespace
}  // namespace clonedev
