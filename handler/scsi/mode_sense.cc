#include "scsi/mode_sense.h"

#include <array>

#include "scsi/cdb.h"

namespace clonedev::scsi {
namespace {

// DEVICE-SPECIFIC PARAMETER of the header (SBC-4 6.5.1).
constexpr std::uint8_t kWriteProtectedBit = 0x80;
constexpr std::uint8_t kDpoFua = 0x10;

// The mode pages of the runner, with its values.
struct ModePage {
  std::uint8_t code;
  std::uint8_t length;  // Of what follows it.
  void (*fill)(std::uint8_t* page, const Disk& disk);
};
constexpr std::array<ModePage, 3> kModePages{{
    {0x01, 0x0a, [](std::uint8_t*, const Disk&) {}},  // Read-write error recovery.
    {0x08, 0x12,                                      // Caching: WCE.
     [](std::uint8_t* page, const Disk& disk) { page[2] = disk.write_cache ? 0x04 : 0; }},
    {0x0a, 0x0a,  // Control: GLTSD, unrestricted reordering, no busy time-out.
     [](std::uint8_t* page, const Disk&) {
       page[2] = 0x02;
       page[3] = 0x10;
       page[8] = page[9] = 0xff;
     }},
}};

}  // namespace

std::vector<std::uint8_t> mode_sense_page(const std::uint8_t* cdb, const Disk& disk) {
  constexpr std::uint8_t kAllPages = 0x3f;
  constexpr std::uint8_t kAllSubpages = 0xff;
  enum Control : std::uint8_t { current, changeable, defaults, saved };
  const auto control = static_cast<Control>(cdb[2] >> 6);
  if (control == saved || (cdb[3] != 0 && cdb[3] != kAllSubpages)) return {};
  const std::uint8_t wanted = cdb[2] & 0x3f;
  const bool ten = cdb[0] == kModeSense10;
  std::vector<std::uint8_t> answer(ten ? 8 : 4);
  const std::size_t header = answer.size();
  answer[ten ? 3 : 2] =
      static_cast<std::uint8_t>(kDpoFua | (disk.write_protected ? kWriteProtectedBit : 0));
  for (const ModePage& page : kModePages) {
    if (wanted != page.code && wanted != kAllPages) continue;
    const std::size_t at = answer.size();
    answer.resize(at + 2 + page.length);
    answer[at] = page.code;
    answer[at + 1] = page.length;
    // Nothing can be changed.
    if (control != changeable) page.fill(&answer[at], disk);
  }
  if (answer.size() == header) return {};
  if (ten) {
    answer[0] = static_cast<std::uint8_t>((answer.size() - 2) >> 8);
    answer[1] = static_cast<std::uint8_t>(answer.size() - 2);
  } else {
    answer[0] = static_cast<std::uint8_t>(answer.size() - 1);
  }
  return answer;
}

Sense mode_sense_refusal(const std::uint8_t* cdb) {
  const bool saved = cdb[2] >> 6 == 3;
  return saved ? kSavingParametersNotSupported : kInvalidFieldInCdb;
}

std::size_t mode_sense_allocation(const std::uint8_t* cdb) {
  return cdb[0] == kModeSense6 ? cdb[4] : big_endian(cdb + 7, 2);
}

}  // namespace clonedev::scsi
