#include "scsi_intercept.h"

#include <dirent.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "scsi_cdb.h"
#include "scsi_status.h"

namespace clonedev::scsi {
namespace {

constexpr std::uint8_t kEvpd = 0x01;
constexpr std::uint8_t kDeviceIdentification = 0x83;
constexpr std::string_view kVendor = "LIO-ORG ";

Verdict judge_write_same(std::uint8_t* cdb) {
  if ((cdb[1] & (kAnchor | kPbdata | kLbdata)) != 0) return Verdict::invalid_field;
  if (cdb[0] == kWriteSame16 && (cdb[1] & kNoDataOut) != 0) return Verdict::invalid_field;
  if ((cdb[1] & kUnmap) != 0) {
    cdb[1] = static_cast<std::uint8_t>((cdb[1] & ~kUnmap) | kAnchor);
  }
  return Verdict::leave;
}

Verdict judge_inquiry(const std::uint8_t* cdb) {
  const bool vital_product_data = (cdb[1] & kEvpd) != 0;
  if (vital_product_data && cdb[2] == kDeviceIdentification) return Verdict::device_identification;
  if (!vital_product_data && cdb[2] == 0) return Verdict::standard_inquiry;
  return Verdict::leave;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::size_t big_endian_16(const std::uint8_t* bytes) {
  return static_cast<std::size_t>(bytes[0]) << 8 | bytes[1];
}

// As answer_inquiry().
void answer(std::span<const std::uint8_t> page, std::size_t allocation,
            std::span<const iovec> buffer) {
  page = page.first(std::min(page.size(), allocation));
  for (const iovec& piece : buffer) {
    auto* const out = static_cast<std::uint8_t*>(piece.iov_base);
    const std::size_t copied = std::min(page.size(), piece.iov_len);
    if (copied > 0) std::memcpy(out, page.data(), copied);
    if (piece.iov_len > copied) std::memset(out + copied, 0, piece.iov_len - copied);
    page = page.subspan(copied);
  }
}

// The mode pages of the runner, with its values.
struct ModePage {
  std::uint8_t code;
  std::uint8_t length;  // Of what follows it.
  void (*fill)(std::uint8_t* page, ModeParameters parameters);
};
constexpr std::array<ModePage, 3> kModePages{{
    {0x01, 0x0a, [](std::uint8_t*, ModeParameters) {}},  // Read-write error recovery.
    {0x08, 0x12,                                         // Caching: WCE.
     [](std::uint8_t* page, ModeParameters parameters) {
       page[2] = parameters.write_cache ? 0x04 : 0;
     }},
    {0x0a, 0x0a,  // Control: GLTSD, unrestricted reordering, no busy time-out.
     [](std::uint8_t* page, ModeParameters) {
       page[2] = 0x02;
       page[3] = 0x10;
       page[8] = page[9] = 0xff;
     }},
}};

void append_t10_designator(std::vector<std::uint8_t>& page, std::string_view serial) {
  // One length byte for vendor, serial and a final NUL.
  constexpr std::size_t kLongestSerial = 255 - 8 - 1;
  serial = serial.substr(0, kLongestSerial);
  const auto length = static_cast<std::uint8_t>(kVendor.size() + serial.size() + 1);
  page.insert(page.end(), {0x02 /* ASCII */, 0x01 /* T10 vendor */, 0x00, length});
  page.insert(page.end(), kVendor.begin(), kVendor.end());
  page.insert(page.end(), serial.begin(), serial.end());
  page.push_back(0);
}

// NAA 6 with the company id 00 14 05 that LIO uses; the serial's hex digits fill the 25 nibbles
// that remain.
void append_naa_designator(std::vector<std::uint8_t>& page, std::string_view serial) {
  constexpr std::size_t kBytes = 16;
  constexpr std::size_t kFixedNibbles = 7;  // 6, then 001405.
  std::array<std::uint8_t, kBytes> name{0x60, 0x01, 0x40, 0x50};
  std::size_t nibble = kFixedNibbles;
  for (const char c : serial) {
    const int digit = hex_digit(c);
    if (digit < 0) continue;
    if (nibble == 2 * kBytes) break;
    const unsigned shift = nibble % 2 == 0 ? 4 : 0;
    name[nibble / 2] = static_cast<std::uint8_t>(name[nibble / 2] | (digit << shift));
    ++nibble;
  }
  page.insert(page.end(), {0x01 /* binary */, 0x03 /* NAA */, 0x00, kBytes});
  page.insert(page.end(), name.begin(), name.end());
}

}  // namespace

Verdict judge(std::uint8_t* cdb) {
  switch (cdb[0]) {
    case kFormatUnit:
    case kExtendedCopy:
    case kReceiveCopyResults:
      return Verdict::invalid_command;
    case kWriteSame10:
    case kWriteSame16:
      return judge_write_same(cdb);
    case kInquiry:
      return judge_inquiry(cdb);
    case kUnmapRanges:
      return Verdict::parameter_list;
    default:
      return Verdict::leave;
  }
}

bool wants_deallocation(const std::uint8_t* cdb) { return (cdb[1] & kAnchor) != 0; }

std::array<std::uint8_t, 36> standard_inquiry_page() {
  std::array<std::uint8_t, 36> page{};
  page[2] = 0x05;  // SPC-3
  page[3] = 0x02;  // Response data format.
  page[4] = page.size() - 5;
  page[7] = 0x02;  // Command queuing.
  std::memcpy(&page[8], kVendor.data(), kVendor.size());
  std::memcpy(&page[16], "TCMU device     ", 16);
  std::memcpy(&page[32], "0002", 4);
  return page;
}

std::vector<std::uint8_t> device_identification_page(std::string_view unit_serial) {
  std::vector<std::uint8_t> page{0x00, kDeviceIdentification, 0x00, 0x00};
  append_t10_designator(page, unit_serial);
  append_naa_designator(page, unit_serial);
  const std::size_t length = page.size() - 4;
  page[2] = static_cast<std::uint8_t>(length >> 8);
  page[3] = static_cast<std::uint8_t>(length);
  return page;
}

std::vector<std::uint8_t> mode_sense_answer(const std::uint8_t* cdb, ModeParameters parameters) {
  constexpr std::uint8_t kAllPages = 0x3f;
  constexpr std::uint8_t kAllSubpages = 0xff;
  enum Control : std::uint8_t { current, changeable, defaults, saved };
  const auto control = static_cast<Control>(cdb[2] >> 6);
  if (control == saved || (cdb[3] != 0 && cdb[3] != kAllSubpages)) return {};
  const std::uint8_t wanted = cdb[2] & 0x3f;
  const bool ten = cdb[0] == kModeSense10;
  std::vector<std::uint8_t> answer(ten ? 8 : 4);
  const std::size_t header = answer.size();
  answer[ten ? 3 : 2] = parameters.write_protected ? 0x80 : 0;
  for (const ModePage& page : kModePages) {
    if (wanted != page.code && wanted != kAllPages) continue;
    const std::size_t at = answer.size();
    answer.resize(at + 2 + page.length);
    answer[at] = page.code;
    answer[at + 1] = page.length;
    // Nothing can be changed.
    if (control != changeable) page.fill(&answer[at], parameters);
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

void answer_inquiry(const std::uint8_t* cdb, std::span<const std::uint8_t> page,
                    std::span<const iovec> buffer) {
  answer(page, big_endian_16(&cdb[3]), buffer);
}

bool unmap_list_is_whole(const std::uint8_t* cdb, std::span<const iovec> list) {
  constexpr std::size_t kHead = 8;
  constexpr std::size_t kRange = 16;
  const std::size_t length = big_endian_16(cdb + 7);
  if (length < kHead) return true;
  std::array<std::uint8_t, 4> head{};
  std::size_t have = 0;
  for (const iovec& piece : list) {
    const std::size_t copied = std::min(head.size() - have, piece.iov_len);
    if (copied > 0) std::memcpy(head.data() + have, piece.iov_base, copied);
    have += copied;
  }
  const std::size_t ranges = big_endian_16(&head[2]) / kRange;
  return kHead + ranges * kRange <= length;
}

bool has_own_port_groups(const std::string& alua_dir) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(alua_dir.c_str()), ::closedir);
  if (!dir) return false;
  while (const dirent* const entry = ::readdir(dir.get())) {
    const std::string_view name(entry->d_name);
    if (name != "." && name != ".." && name != "default_tg_pt_gp") return true;
  }
  return false;
}

Intercept::Intercept(tcmu_device* device, std::string alua_dir,
                     std::function<ModeParameters()> parameters)
    : device_(device), alua_dir_(std::move(alua_dir)), parameters_(std::move(parameters)) {}

int Intercept::handle(tcmulib_cmd& cmd) {
  if (const ModeParameters parameters = parameters_(); parameters.write_protected) {
    if (changes_data(cmd.cdb)) return write_protected(SenseBuffer(cmd.sense_buf));
    if (cmd.cdb[0] == kModeSense6 || cmd.cdb[0] == kModeSense10) return sense_mode(cmd, parameters);
  }
  switch (judge(cmd.cdb)) {
    case Verdict::leave:
      return TCMU_STS_NOT_HANDLED;
    case Verdict::invalid_command:
      return TCMU_STS_INVALID_CMD;
    case Verdict::invalid_field:
      return TCMU_STS_INVALID_CDB;
    case Verdict::standard_inquiry:
    case Verdict::device_identification:
      return identify(cmd);
    case Verdict::parameter_list:
      return unmap_list_is_whole(cmd.cdb, {cmd.iovec, cmd.iov_cnt})
                 ? TCMU_STS_NOT_HANDLED
                 : TCMU_STS_INVALID_PARAM_LIST_LEN;
  }
  return TCMU_STS_NOT_HANDLED;
}

int Intercept::identify(tcmulib_cmd& cmd) {
  // Target port groups belong into both pages, and only the runner knows its ports. Whoever sets up
  // groups gets the runner's pages, config string included.
  if (has_own_port_groups(alua_dir_)) return TCMU_STS_NOT_HANDLED;
  const std::span<const iovec> buffer(cmd.iovec, cmd.iov_cnt);
  if ((cmd.cdb[1] & kEvpd) == 0) {
    answer_inquiry(cmd.cdb, standard_inquiry_page(), buffer);
    return TCMU_STS_OK;
  }
  const std::string& serial = unit_serial();
  if (serial.empty()) return TCMU_STS_HW_ERR;
  answer_inquiry(cmd.cdb, device_identification_page(serial), buffer);
  return TCMU_STS_OK;
}

int Intercept::sense_mode(tcmulib_cmd& cmd, ModeParameters parameters) {
  const std::vector<std::uint8_t> page = mode_sense_answer(cmd.cdb, parameters);
  if (page.empty()) return TCMU_STS_INVALID_CDB;
  const std::size_t allocation =
      cmd.cdb[0] == kModeSense6 ? cmd.cdb[4] : big_endian_16(&cmd.cdb[7]);
  answer(page, allocation, {cmd.iovec, cmd.iov_cnt});
  return TCMU_STS_OK;
}

const std::string& Intercept::unit_serial() {
  if (unit_serial_.empty()) {
    const std::unique_ptr<char, void (*)(void*)> read(tcmu_cfgfs_dev_get_wwn(device_), std::free);
    if (read) unit_serial_ = read.get();
  }
  return unit_serial_;
}

}  // namespace clonedev::scsi
