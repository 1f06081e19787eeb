#include "origin/scsi_disk.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <random>

#include "origin/read_marks.h"

namespace clonedev {
namespace {

using Answer = std::vector<std::byte>;

Answer bytes(std::initializer_list<unsigned> values) {
  Answer result;
  for (const unsigned value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}
void put(Answer& into, std::uint64_t value, int length) {
  while (length-- > 0) into.push_back(static_cast<std::byte>(value >> (8 * length)));
}
Answer capacity(std::uint64_t last, std::uint64_t sector, unsigned provisioning) {
  Answer answer;
  put(answer, last, 8);
  put(answer, sector, 4);
  put(answer, provisioning, 4);  // Answer 12 to 15.
  answer.resize(32);
  return answer;
}

TEST(ScsiDisk, commands_are_those_of_the_standard) {
  const ScsiCommand read = read_sectors(0x1122334455667788, 0x99aabbcc);
  const std::array<unsigned char, 16> expected = {0x88, 0,    0x11, 0x22, 0x33, 0x44, 0x55, 0x66,
                                                  0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0,    0};
  EXPECT_EQ(read.block, expected);
  EXPECT_EQ(inquiry_page(0x83, 252).block[1], 1);
  EXPECT_EQ(inquiry_page(0x83, 252).block[4], 252);
  EXPECT_EQ(read_capacity(32).block[1], 0x10);
  EXPECT_EQ(get_lba_status(1, 24).block[9], 1);
  EXPECT_EQ(get_lba_status(1, 24).block[13], 24);
}

TEST(ScsiDisk, only_a_disk_is_accepted) {
  EXPECT_TRUE(check_inquiry(bytes({0x00})));
  EXPECT_FALSE(check_inquiry(bytes({0x7f})));
  EXPECT_FALSE(check_inquiry(bytes({0x05})));
  EXPECT_FALSE(check_inquiry(bytes({0x20})));
}

TEST(ScsiDisk, capacity) {
  ScsiDisk disk;
  ASSERT_TRUE(take_capacity(capacity(2047, 512, 0xc000), disk));
  EXPECT_EQ(disk.size, 1U << 20);
  EXPECT_TRUE(disk.unmapped_is_zero);
  for (const unsigned provisioning : {0U, 0x8000U, 0x4000U}) {
    ASSERT_TRUE(take_capacity(capacity(0, 4096, provisioning), disk));
    EXPECT_FALSE(disk.unmapped_is_zero) << provisioning;
  }
  EXPECT_EQ(disk.size, 4096U);
  EXPECT_FALSE(take_capacity(capacity(~0ULL, 512, 0), disk));
  EXPECT_FALSE(take_capacity(capacity(~0ULL - 1, 512, 0), disk));
  EXPECT_FALSE(take_capacity(capacity(2047, 520, 0), disk));
  EXPECT_FALSE(take_capacity(capacity(2047, 0, 0), disk));
  EXPECT_FALSE(take_capacity({}, disk));
}

TEST(ScsiDisk, the_best_name_of_the_lun_is_taken) {
  ScsiDisk disk;
  Answer page = bytes({0, 0x83, 0, 0});
  const auto add = [&page](unsigned kind, const std::string& value) {
    put(page, kind >> 8, 1);
    put(page, kind & 0xff, 1);
    put(page, value.size(), 2);
    for (const char c : value) page.push_back(static_cast<std::byte>(c));
    page[3] = static_cast<std::byte>(page.size() - 4);
  };
  add(0x0201, "VENDOR  a;b ");
  take_designator(page, disk);
  EXPECT_EQ(disk.designator, "t10=VENDOR__a_b");
  add(0x0113, "12345678");  // Of the port, not of the LUN.
  add(0x0102, "abcdefgh");
  take_designator(page, disk);
  EXPECT_EQ(disk.designator, "eui=6162636465666768");
  add(0x0103, "ABCDEFGH");
  take_designator(page, disk);
  EXPECT_EQ(disk.designator, "naa=4142434445464748");
}

TEST(ScsiDisk, only_what_is_told_without_a_gap_is_believed) {
  const ScsiDisk disk{.size = 1 << 20, .sector = 512, .designator = ""};
  const auto told = [&disk](std::initializer_list<std::array<std::uint64_t, 3>> parts,
                            Extent range) {
    Answer answer;
    put(answer, 4 + 16 * parts.size(), 4);
    put(answer, 0, 4);
    for (const auto& part : parts) {
      put(answer, part[0], 8);
      put(answer, part[1], 4);
      put(answer, part[2] << 24, 4);
    }
    return take_lba_status(answer, disk, range);
  };
  const auto parts = told({{{0, 16, 0}}, {{16, 16, 1}}, {{32, 999999, 2}}}, {4096, 65536});
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].extent, (Extent{4096, 4096}));
  EXPECT_FALSE(parts[0].zero);
  EXPECT_EQ(parts[1].extent, (Extent{8192, 8192}));
  EXPECT_TRUE(parts[1].zero);
  EXPECT_EQ(parts[2].extent.end(), 4096U + 65536U);
  EXPECT_FALSE(parts[2].zero) << "anchored is not taken for zero";
  EXPECT_TRUE(told({{{8, 0, 1}}}, {4096, 4096}).empty());
  EXPECT_TRUE(told({{{16, 8, 1}}}, {4096, 4096}).empty()) << "begins later";
  EXPECT_EQ(told({{{8, 2, 1}}, {{8, 2, 1}}}, {4096, 4096}).size(), 1U) << "twice the same";
  EXPECT_TRUE(told({{{~0ULL, 8, 1}}}, {4096, 4096}).empty());
}

TEST(ScsiDisk, random_answers_never_do_harm) {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    Answer answer(random() % 80);
    for (std::byte& byte : answer)
      byte = static_cast<std::byte>(random() % 3 ? random() % 5 : random());
    if (answer.size() > 1 && random() % 2)
      answer[1] = random() % 2 ? std::byte{0x83} : std::byte{0xb0};
    ScsiDisk disk;
    (void)check_inquiry(answer);
    take_designator(answer, disk);
    take_block_limits(answer, disk);
    EXPECT_LT(disk.designator.size(), 80U);
    if (!take_capacity(answer, disk)) continue;
    std::uint64_t at = 0;
    for (const OriginExtent& part : take_lba_status(answer, disk, {0, disk.size})) {
      EXPECT_EQ(part.extent.offset, at);
      at = part.extent.end();
    }
    EXPECT_LE(at, disk.size);
  }
}

TEST(ReadMarks, see_every_missing_part_of_a_sector_or_more) {
  for (const std::size_t missing : {0U, 512U, 3584U}) {
    Answer buffer(4096);
    const ReadMarks marks(0x1122334455667788, buffer);
    EXPECT_FALSE(marks.gone());
    for (std::size_t i = 0; i < buffer.size(); ++i) {
      if (i < missing || i >= missing + 512) buffer[i] = std::byte{};
    }
    EXPECT_FALSE(marks.gone()) << missing;
    std::fill(buffer.begin(), buffer.end(), std::byte{});
    EXPECT_TRUE(marks.gone());
  }
  Answer cut(4096);
  const ReadMarks marks(1, cut);
  std::fill(cut.begin(), cut.end() - 9, std::byte{});
  EXPECT_FALSE(marks.gone());
}

}  // namespace
}  // namespace clonedev
