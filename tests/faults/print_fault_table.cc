// Prints the fault matrix as docs/faults.md shows it, with what the handler makes of each error.

#include <fmt/format.h>

#include <array>
#include <string>

#include "faults/fault_table.h"
#include "scsi/status.h"

namespace clonedev {
namespace {

std::string scsi_name(int status, SenseBuffer sense) {
  switch (status) {
    case TCMU_STS_BUSY:
      return "BUSY";
    case TCMU_STS_NO_RESOURCE:
      return "TASK SET FULL";
    case TCMU_STS_RD_ERR:
      return "MEDIUM ERROR, read error";
    case TCMU_STS_WR_ERR:
      return "MEDIUM ERROR, write error";
    case TCMU_STS_HW_ERR:
      return "HARDWARE ERROR";
    case TCMU_STS_PASSTHROUGH_ERR:
      return fmt::format("sense {:x}/{:02x}{:02x}", sense[2], sense[12], sense[13]);
    default:
      return fmt::format("status {}", status);
  }
}

std::string seen(const Rule& rule) {
  const Expectation& expected = rule.expected;
  switch (expected.outcome) {
    case Outcome::good:
      return "good";
    case Outcome::waits:
      return "no answer until the device answers; then good";
    case Outcome::unseen:
      return "good, with the bytes that were given";
    case Outcome::impossible:
      return "cannot be";
    case Outcome::refused:
      return fmt::format("no LUN: refused ({})", make_error_code(*expected.error).message());
    case Outcome::busy:
    case Outcome::fails:
      break;
  }
  const Errc code = expected.error.value_or(Errc::busy);
  const auto includes = [&](Activity activity) {
    return (rule.activities & (1u << static_cast<unsigned>(activity))) != 0;
  };
  std::array<std::uint8_t, TCMU_SENSE_BYTES> sense{};
  const Operation operation = includes(Activity::read)     ? Operation::read
                              : includes(Activity::commit) ? Operation::flush
                                                           : Operation::write;
  return scsi_name(to_tcmu_status({make_error_code(code), {}}, operation, sense), sense);
}

}  // namespace
}  // namespace clonedev

int main() { return std::fputs(clonedev::fault_table(clonedev::seen).c_str(), stdout) < 0 ? 1 : 0; }
