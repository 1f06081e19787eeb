#include "scsi_status.h"

#include <algorithm>
#include <limits>

namespace clonedev {
namespace {

enum SenseKey : std::uint8_t { kDataProtect = 0x07 };

constexpr std::uint16_t kWriteProtected = 0x2700;
constexpr std::uint16_t kSpaceAllocationFailed = 0x2707;

bool changes_data(Operation operation) {
  return operation != Operation::read && operation != Operation::flush;
}

// Fixed-format sense data, current error (SPC-5 4.4.3).
int check_condition(SenseBuffer sense, SenseKey key, std::uint16_t code) {
  std::fill(sense.begin(), sense.end(), std::uint8_t{0});
  sense[0] = 0x70;
  sense[2] = key;
  sense[7] = 10;  // Bytes that follow.
  sense[12] = static_cast<std::uint8_t>(code >> 8);
  sense[13] = static_cast<std::uint8_t>(code);
  return TCMU_STS_PASSTHROUGH_ERR;
}

// libtcmu adds key and code of a miscompare and keeps the INFORMATION field set here.
int miscompare(SenseBuffer sense, std::uint64_t first_difference) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint32_t>::max();
  const auto offset = static_cast<std::uint32_t>(std::min(first_difference, kMax));
  std::fill(sense.begin(), sense.end(), std::uint8_t{0});
  sense[0] = 0x80;  // VALID.
  for (unsigned i = 0; i < 4; ++i) {
    sense[3 + i] = static_cast<std::uint8_t>(offset >> (24 - 8 * i));
  }
  return TCMU_STS_MISCOMPARE;
}

}  // namespace

int to_tcmu_status(const Error& error, Operation operation, SenseBuffer sense) {
  const std::error_code& code = error.code;
  // BUSY is retried; a device on its way out is either reopened soon or gone for good.
  if (code == Errc::busy || code == Errc::closed) return TCMU_STS_BUSY;
  if (code == Errc::live_map_full) return TCMU_STS_NO_RESOURCE;
  if (code == Errc::miscompare) return miscompare(sense, error.detail);
  if (code == Errc::no_space) return check_condition(sense, kDataProtect, kSpaceAllocationFailed);
  if (code == Errc::refused && changes_data(operation)) return write_protected(sense);
  if (code == Errc::origin_read || code == Errc::destination_read) return TCMU_STS_RD_ERR;
  if (code == Errc::destination_write) return TCMU_STS_WR_ERR;
  if (code == Errc::needs_check && operation != Operation::read) return TCMU_STS_WR_ERR;
  return TCMU_STS_HW_ERR;
}

int write_protected(SenseBuffer sense) {
  return check_condition(sense, kDataProtect, kWriteProtected);
}

}  // namespace clonedev
