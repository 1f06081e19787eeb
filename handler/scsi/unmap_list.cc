#include "scsi/unmap_list.h"

namespace clonedev::scsi {

tl::expected<std::vector<Blocks>, Sense> parse_unmap_list(std::span<const std::uint8_t> list,
                                                          const Disk& disk) {
  constexpr std::size_t kHead = 8;
  constexpr std::size_t kRange = 16;
  if (list.empty()) return std::vector<Blocks>{};
  if (list.size() < kHead) return tl::unexpected(kParameterListLengthError);
  const std::size_t ranges = big_endian(&list[2], 2) / kRange;
  if (kHead + ranges * kRange > list.size()) return tl::unexpected(kParameterListLengthError);
  if (ranges > kMostUnmapRanges) return tl::unexpected(kInvalidFieldInParameterList);
  std::vector<Blocks> parsed;
  for (std::size_t at = kHead; at < kHead + ranges * kRange; at += kRange) {
    const Blocks blocks{big_endian(&list[at], 8), big_endian(&list[at + 8], 4)};
    if (!disk.holds(blocks.lba, blocks.count)) return tl::unexpected(kLbaOutOfRange);
    if (blocks.count > 0) parsed.push_back(blocks);
  }
  return parsed;
}

}  // namespace clonedev::scsi
