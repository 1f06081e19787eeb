#include "scsi/status.h"

#include <algorithm>
#include <limits>

namespace clonedev {
namespace {

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

// Fixed-format sense data, current error (SPC-5 4.4.3).
int check_condition(SenseBuffer buffer, scsi::Sense sense) {
  std::fill(buffer.begin(), buffer.end(), std::uint8_t{0});
  buffer[0] = 0x70;
  buffer[2] = sense.key;
  buffer[7] = 10;  // Bytes that follow.
  buffer[12] = static_cast<std::uint8_t>(sense.code >> 8);
  buffer[13] = static_cast<std::uint8_t>(sense.code);
  return TCMU_STS_PASSTHROUGH_ERR;
}

int to_tcmu_status(const Error& error, Operation operation, SenseBuffer sense) {
  const std::error_code& code = error.code;
  // BUSY is retried; a device on its way out is either reopened soon or gone for good.
  if (code == Errc::busy || code == Errc::closed) return TCMU_STS_BUSY;
  if (code == Errc::origin_lost) return check_condition(sense, scsi::kOriginLost);
  if (code == Errc::live_map_full) return TCMU_STS_NO_RESOURCE;
  if (code == Errc::miscompare) return miscompare(sense, error.detail);
  if (code == Errc::no_space) return check_condition(sense, scsi::kSpaceAllocationFailed);
  if (code == Errc::refused && changes_data(operation)) {
    return check_condition(sense, scsi::kWriteProtected);
  }
  if (code == Errc::origin_read || code == Errc::destination_read) return TCMU_STS_RD_ERR;
  if (code == Errc::destination_write) return TCMU_STS_WR_ERR;
  if (code == Errc::needs_check && operation != Operation::read) return TCMU_STS_WR_ERR;
  return TCMU_STS_HW_ERR;
}

}  // namespace clonedev
