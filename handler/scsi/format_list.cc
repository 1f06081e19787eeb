#include "scsi/format_list.h"

#include "scsi/cdb.h"

namespace clonedev::scsi {

std::optional<Sense> judge_format(const std::uint8_t* cdb, std::span<const std::uint8_t> list) {
  constexpr std::uint8_t kProtection = 0xc0;  // FMTPINFO
  constexpr std::uint8_t kLongList = 0x20;
  constexpr std::uint8_t kFormatData = 0x10;
  // Without a list the kernel would take it for a command that only asks, and let it pass where a
  // reservation or a read-only mapping forbids writing.
  if ((cdb[1] & kProtection) != 0 || (cdb[1] & kFormatData) == 0) return kInvalidFieldInCdb;
  const bool long_list = (cdb[1] & kLongList) != 0;
  const std::size_t head = long_list ? 8 : 4;
  if (list.size() < head) return kParameterListLengthError;
  constexpr std::uint8_t kProtectionFieldUsage = 0x07;
  constexpr std::uint8_t kInitializationPattern = 0x08;  // IP
  const std::uint64_t defects = long_list ? big_endian(&list[4], 4) : big_endian(&list[2], 2);
  const bool only_zeroes = (list[0] & kProtectionFieldUsage) == 0 &&
                           (list[1] & kInitializationPattern) == 0 && defects == 0;
  if (!only_zeroes) return kInvalidFieldInParameterList;
  return std::nullopt;
}

}  // namespace clonedev::scsi
