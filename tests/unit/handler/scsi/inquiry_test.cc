#include "scsi/inquiry.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "scsi/cdb.h"

namespace clonedev::scsi {
namespace {

constexpr Disk kDisk{.block_bytes = 512, .blocks = 1 << 20, .most_transfer_blocks = 2048};

std::vector<std::uint8_t> vital_page(std::uint8_t code, const Disk& disk = kDisk,
                                     std::string_view serial = "0123abcd-4567") {
  const std::array<std::uint8_t, 6> cdb{0x12, 0x01, code, 0, 0xff, 0};
  return inquiry_page(cdb.data(), disk, serial);
}

TEST(Inquiry, standard_data_names_the_standards_and_third_party_copy) {
  const std::array<std::uint8_t, 6> cdb{0x12, 0, 0, 0, 0xff, 0};
  const auto page = inquiry_page(cdb.data(), kDisk, "");
  EXPECT_EQ(page[2], 0x06) << "SPC-4";
  EXPECT_EQ(page[4], page.size() - 5);
  EXPECT_EQ(page[5], 0x08) << "3PC and no target port groups";
  EXPECT_EQ(std::string(page.begin() + 8, page.begin() + 32), "LIO-ORG TCMU device     ");
  EXPECT_EQ(big_endian(&page[62], 2), 0x04c0u) << "SBC-3";
  const std::array<std::uint8_t, 6> page_without_evpd{0x12, 0, 0x80, 0, 0xff, 0};
  EXPECT_TRUE(inquiry_page(page_without_evpd.data(), kDisk, "").empty());
}

TEST(Inquiry, every_page_that_is_listed_is_there_with_its_own_length) {
  const auto list = vital_page(0x00);
  ASSERT_EQ(list.size(), 4u + 6);
  for (std::size_t i = 4; i < list.size(); ++i) {
    const auto page = vital_page(list[i]);
    ASSERT_GE(page.size(), 4u) << int{list[i]};
    EXPECT_EQ(page[1], list[i]);
    EXPECT_EQ(big_endian(&page[2], 2), page.size() - 4) << int{list[i]};
  }
  EXPECT_TRUE(vital_page(0xb3).empty());
}

TEST(Inquiry, identification_is_built_from_the_serial_alone) {
  const auto page = vital_page(0x83);
  ASSERT_EQ(page.size(), 4U + 4 + 8 + 13 + 1 + 20);
  EXPECT_EQ(page[4], 0x02);
  EXPECT_EQ(page[5], 0x01);
  EXPECT_EQ(page[7], 8 + 13 + 1);
  EXPECT_EQ(std::string(page.begin() + 8, page.begin() + 29), "LIO-ORG 0123abcd-4567");
  const std::vector<std::uint8_t> naa(page.begin() + 30, page.end());
  EXPECT_EQ(naa,
            (std::vector<std::uint8_t>{0x01, 0x03, 0x00, 0x10, 0x60, 0x01, 0x40, 0x50, 0x12, 0x3a,
                                       0xbc, 0xd4, 0x56, 0x70, 0,    0,    0,    0,    0,    0}));
}

TEST(Inquiry, longest_serial_keeps_every_length_byte_true) {
  const auto page = vital_page(0x83, kDisk, std::string(254, 'f'));
  EXPECT_EQ(page[7], 255);
  EXPECT_EQ(page.size(), 4U + 4 + 255 + 20);
  EXPECT_EQ(page.back(), 0xff);
  EXPECT_EQ(big_endian(&vital_page(0x80, kDisk, std::string(254, 'f'))[2], 2), 255U);
}

TEST(Inquiry, limits_are_those_that_are_kept) {
  for (const std::uint32_t block_bytes : {512U, 4096U}) {
    Disk disk = kDisk;
    disk.block_bytes = block_bytes;
    const auto page = vital_page(0xb0, disk);
    EXPECT_EQ(page[4], 0) << "WSNZ";
    EXPECT_EQ(page[5], 1) << "COMPARE AND WRITE";
    EXPECT_EQ(big_endian(&page[6], 2) * block_bytes, 4096U);
    EXPECT_EQ(big_endian(&page[8], 4), 2048U);
    EXPECT_EQ(big_endian(&page[20], 4), 0xffffffffU) << "UNMAP of any length";
    EXPECT_EQ(big_endian(&page[24], 4), kMostUnmapRanges);
    EXPECT_EQ(big_endian(&page[28], 4) * block_bytes, 4096U);
    EXPECT_EQ(big_endian(&page[36], 8) * block_bytes, kLongestCommandBytes);
  }
  Disk odd = kDisk;
  odd.most_transfer_blocks = 65535;
  EXPECT_EQ(big_endian(&vital_page(0xb0, odd)[12], 4), 2048U) << "optimal: 1 MiB";
  odd.most_transfer_blocks = 1003;
  EXPECT_EQ(big_endian(&vital_page(0xb0, odd)[12], 4), 1000U) << "whole physical blocks";
  const auto provisioning = vital_page(0xb2);
  EXPECT_EQ(provisioning[5], 0xe4) << "UNMAP, both WRITE SAMEs, zeroes";
  EXPECT_EQ(provisioning[6], 0x02) << "thin";
}

}  // namespace
}  // namespace clonedev::scsi
