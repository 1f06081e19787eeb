#include "scsi/copy_list.h"

#include <algorithm>
#include <bit>

#include "scsi/inquiry.h"

namespace clonedev::scsi {
namespace {

constexpr std::size_t kHead = 16;
constexpr std::size_t kTargetBytes = 32;
constexpr std::size_t kSegmentBytes = 28;
constexpr std::uint8_t kIdentificationTarget = 0xe4;
constexpr std::uint8_t kBlockToBlockSegment = 0x02;
constexpr std::size_t kMostTargets = 4;
constexpr std::size_t kMostSegments = 16;
constexpr std::size_t kLongestDescriptors =
    kMostTargets * kTargetBytes + kMostSegments * kSegmentBytes;
constexpr std::uint32_t kLongestSegmentBytes = 16 << 20;

using Bytes = std::span<const std::uint8_t>;

bool names_this_lun(Bytes target, const NaaDesignator& designator) {
  // The designator's own head, with the code set in the low nibble, begins at byte 4.
  constexpr std::size_t kDesignatorAt = 4;
  return std::equal(designator.begin(), designator.end(), target.begin() + kDesignatorAt);
}

tl::expected<CopySegment, Sense> parse_segment(Bytes segment, const std::vector<bool>& ours,
                                               const Disk& disk) {
  const std::size_t source = big_endian(&segment[4], 2);
  const std::size_t destination = big_endian(&segment[6], 2);
  if (source >= ours.size() || destination >= ours.size()) {
    return tl::unexpected(kCopyAborted);
  }
  if (!ours[source] || !ours[destination]) return tl::unexpected(kCopyTargetNotReachable);
  const CopySegment parsed{big_endian(&segment[12], 8), big_endian(&segment[20], 8),
                           big_endian(&segment[10], 2)};
  const bool inside = disk.holds(parsed.source_lba, parsed.blocks) &&
                      disk.holds(parsed.destination_lba, parsed.blocks);
  if (!inside) return tl::unexpected(kCopyAborted);
  const std::uint64_t apart = parsed.source_lba > parsed.destination_lba
                                  ? parsed.source_lba - parsed.destination_lba
                                  : parsed.destination_lba - parsed.source_lba;
  const bool overlaps = apart != 0 && apart < parsed.blocks;
  if (overlaps || parsed.blocks * disk.block_bytes > kLongestSegmentBytes) {
    return tl::unexpected(kInvalidFieldInParameterList);
  }
  return parsed;
}

}  // namespace

tl::expected<std::vector<CopySegment>, Sense> parse_copy_list(Bytes list, const Disk& disk,
                                                              std::string_view unit_serial) {
  if (list.empty()) return std::vector<CopySegment>{};
  if (list.size() < kHead) return tl::unexpected(kParameterListLengthError);
  const std::size_t targets = big_endian(&list[2], 2);
  const std::size_t segments = big_endian(&list[8], 4);
  const std::size_t inline_data = big_endian(&list[12], 4);
  if (targets + segments > kLongestDescriptors || inline_data > 0 ||
      kHead + targets + segments > list.size()) {
    return tl::unexpected(kParameterListLengthError);
  }
  const NaaDesignator designator = naa_designator(unit_serial);
  std::vector<bool> ours;
  for (std::size_t at = kHead; at < kHead + targets; at += kTargetBytes) {
    if (ours.size() == kMostTargets) return tl::unexpected(kTooManyTargetDescriptors);
    if (list[at] != kIdentificationTarget) {
      return tl::unexpected(kUnsupportedTargetDescriptorType);
    }
    if (at + kTargetBytes > kHead + targets) return tl::unexpected(kParameterListLengthError);
    ours.push_back(names_this_lun(list.subspan(at, kTargetBytes), designator));
  }
  std::vector<CopySegment> parsed;
  for (std::size_t at = kHead + targets; at < kHead + targets + segments; at += kSegmentBytes) {
    if (parsed.size() == kMostSegments) return tl::unexpected(kTooManySegmentDescriptors);
    if (list[at] != kBlockToBlockSegment) return tl::unexpected(kUnsupportedSegmentDescriptorType);
    if (at + kSegmentBytes > kHead + targets + segments) {
      return tl::unexpected(kParameterListLengthError);
    }
    const auto segment = parse_segment(list.subspan(at, kSegmentBytes), ours, disk);
    if (!segment) return tl::unexpected(segment.error());
    parsed.push_back(*segment);
  }
  return parsed;
}

std::vector<std::uint8_t> copy_operating_parameters(const Disk& disk) {
  constexpr std::size_t kTypeCodes = 2;
  std::vector<std::uint8_t> page(44 + kTypeCodes);
  put_big_endian(&page[0], page.size() - 4, 4);
  page[4] = 0x01;  // SNLID: LIST ID USAGE may be 11b.
  put_big_endian(&page[8], kMostTargets, 2);
  put_big_endian(&page[10], kMostSegments, 2);
  put_big_endian(&page[12], kLongestDescriptors, 4);
  put_big_endian(&page[16], kLongestSegmentBytes, 4);
  put_big_endian(&page[34], 1, 2);  // Concurrent copies,
  page[36] = 1;                     // one of them at a time.
  page[37] = static_cast<std::uint8_t>(std::countr_zero(disk.block_bytes));  // Granularity.
  page[43] = kTypeCodes;
  page[44] = kBlockToBlockSegment;
  page[45] = kIdentificationTarget;
  return page;
}

}  // namespace clonedev::scsi
