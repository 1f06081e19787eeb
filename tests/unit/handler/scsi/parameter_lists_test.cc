// What initiators send along with UNMAP, FORMAT UNIT and EXTENDED COPY.
#include <gtest/gtest.h>

#include "scsi/copy_list.h"
#include "scsi/format_list.h"
#include "scsi/inquiry.h"
#include "scsi/unmap_list.h"

namespace clonedev::scsi {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr Disk kSmallDisk{.block_bytes = 512, .blocks = 1000};
constexpr std::string_view kSerial = "0123abcd-4567";

Bytes unmap_list(std::initializer_list<Blocks> ranges) {
  Bytes list(8 + 16 * ranges.size());
  put_big_endian(&list[0], list.size() - 2, 2);
  put_big_endian(&list[2], list.size() - 8, 2);
  std::size_t at = 8;
  for (const Blocks& range : ranges) {
    put_big_endian(&list[at], range.lba, 8);
    put_big_endian(&list[at + 8], range.count, 4);
    at += 16;
  }
  return list;
}

TEST(UnmapListOf, ranges_are_taken_and_empty_ones_left_out) {
  const auto ranges = parse_unmap_list(unmap_list({{0, 8}, {5, 0}, {992, 8}}), kSmallDisk);
  ASSERT_TRUE(ranges);
  ASSERT_EQ(ranges->size(), 2U);
  EXPECT_EQ((*ranges)[1].lba, 992U);
  EXPECT_EQ((*ranges)[1].count, 8U);
}

TEST(UnmapListOf, one_range_outside_refuses_the_whole) {
  for (const Blocks& outside :
       {Blocks{1000, 1}, Blocks{999, 2}, Blocks{~0ULL, 8}, Blocks{1001, 0}}) {
    EXPECT_EQ(parse_unmap_list(unmap_list({{0, 8}, outside}), kSmallDisk).error(), kLbaOutOfRange);
  }
}

TEST(UnmapListOf, more_ranges_than_promised_are_refused) {
  Bytes list(8 + 16 * (kMostUnmapRanges + 1));
  put_big_endian(&list[2], list.size() - 8, 2);
  EXPECT_EQ(parse_unmap_list(list, kSmallDisk).error(), kInvalidFieldInParameterList);
}

TEST(FormatList, a_plain_format_is_taken) {
  const Bytes with{0x04, 0x10, 0, 0, 0, 0};
  const Bytes with_long_list{0x04, 0x30, 0, 0, 0, 0};
  EXPECT_FALSE(judge_format(with.data(), Bytes{0, 0x82, 0, 0}));
  EXPECT_FALSE(judge_format(with_long_list.data(), Bytes(8)));
}

TEST(FormatList, what_would_not_be_done_is_refused) {
  const Bytes protection{0x04, 0x80, 0, 0, 0, 0};
  const Bytes with{0x04, 0x10, 0, 0, 0, 0};
  EXPECT_EQ(judge_format(protection.data(), {}), kInvalidFieldInCdb);
  const Bytes without_a_list{0x04, 0x00, 0, 0, 0, 0};
  EXPECT_EQ(judge_format(without_a_list.data(), {}), kInvalidFieldInCdb)
      << "the kernel would let it pass by a reservation";
  EXPECT_EQ(judge_format(with.data(), Bytes(3)), kParameterListLengthError);
  EXPECT_EQ(judge_format(with.data(), Bytes{1, 0, 0, 0}), kInvalidFieldInParameterList);
  EXPECT_EQ(judge_format(with.data(), Bytes{0, 0x08, 0, 0}), kInvalidFieldInParameterList);
  EXPECT_EQ(judge_format(with.data(), Bytes{0, 0, 0, 8}), kInvalidFieldInParameterList);
}

struct CopyList {
  std::size_t targets = 1;
  std::vector<CopySegment> segments{{10, 20, 5}};
  std::uint8_t target_type = 0xe4;
  std::uint8_t segment_type = 0x02;
  std::string_view serial = kSerial;
  std::size_t destination = 0;

  Bytes bytes() const {
    Bytes list(16 + 32 * targets + 28 * segments.size());
    put_big_endian(&list[2], 32 * targets, 2);
    put_big_endian(&list[8], 28 * segments.size(), 4);
    std::uint8_t* at = &list[16];
    for (std::size_t i = 0; i < targets; ++i, at += 32) {
      at[0] = target_type;
      const NaaDesignator designator = naa_designator(serial);
      std::copy(designator.begin(), designator.end(), at + 4);
    }
    for (const CopySegment& segment : segments) {
      at[0] = segment_type;
      put_big_endian(at + 6, destination, 2);
      put_big_endian(at + 10, segment.blocks, 2);
      put_big_endian(at + 12, segment.source_lba, 8);
      put_big_endian(at + 20, segment.destination_lba, 8);
      at += 28;
    }
    return list;
  }
};

Sense refusal(const CopyList& list) {
  const auto parsed = parse_copy_list(list.bytes(), kSmallDisk, kSerial);
  return parsed ? Sense{} : parsed.error();
}

TEST(CopyListOf, segments_inside_of_the_lun_are_taken) {
  const auto parsed = parse_copy_list(CopyList{}.bytes(), kSmallDisk, kSerial);
  ASSERT_TRUE(parsed);
  ASSERT_EQ(parsed->size(), 1U);
  EXPECT_EQ((*parsed)[0].source_lba, 10U);
  EXPECT_EQ((*parsed)[0].destination_lba, 20U);
  EXPECT_EQ((*parsed)[0].blocks, 5U);
  EXPECT_TRUE(parse_copy_list({}, kSmallDisk, kSerial)->empty()) << "no list asks for nothing";
}

TEST(CopyListOf, what_cannot_be_copied_is_refused_with_its_own_word) {
  EXPECT_EQ(refusal({.serial = "f00d"}), kCopyTargetNotReachable);
  EXPECT_EQ(refusal({.destination = 1}), kCopyAborted);
  EXPECT_EQ(refusal({.segments = {{998, 0, 5}}}), kCopyAborted);
  EXPECT_EQ(refusal({.segments = {{0, ~0ULL, 5}}}), kCopyAborted);
  EXPECT_EQ(refusal({.segments = {{10, 14, 5}}}), kInvalidFieldInParameterList) << "overlap";
  EXPECT_EQ(refusal({.segments = {{14, 10, 5}}}), kInvalidFieldInParameterList);
  EXPECT_EQ(refusal({.segments = {{10, 10, 5}}}), Sense{});
  EXPECT_EQ(refusal({.target_type = 0xe0}), kUnsupportedTargetDescriptorType);
  EXPECT_EQ(refusal({.segment_type = 0x01}), kUnsupportedSegmentDescriptorType);
  EXPECT_EQ(refusal({.targets = 5}), kTooManyTargetDescriptors);
  EXPECT_EQ(refusal({.segments = std::vector<CopySegment>(17)}), kTooManySegmentDescriptors);
}

TEST(CopyListOf, a_list_cut_anywhere_is_refused) {
  const Bytes whole = CopyList{}.bytes();
  for (std::size_t length = 1; length < whole.size(); ++length) {
    const auto parsed = parse_copy_list(std::span(whole).first(length), kSmallDisk, kSerial);
    ASSERT_FALSE(parsed) << length;
    EXPECT_EQ(parsed.error(), kParameterListLengthError) << length;
  }
}

}  // namespace
}  // namespace clonedev::scsi
