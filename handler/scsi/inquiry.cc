#include "scsi/inquiry.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "scsi/cdb.h"

namespace clonedev::scsi {
namespace {

constexpr std::uint8_t kVitalProductData = 0x01;  // EVPD.

enum Page : std::uint8_t {
  kSupportedPages = 0x00,
  kUnitSerialNumber = 0x80,
  kDeviceIdentification = 0x83,
  kBlockLimits = 0xb0,
  kBlockDeviceCharacteristics = 0xb1,
  kLogicalBlockProvisioning = 0xb2,
};

constexpr std::string_view kVendor = "LIO-ORG ";

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::vector<std::uint8_t> standard_data() {
  std::vector<std::uint8_t> page(66);
  page[2] = 0x06;  // SPC-4
  page[3] = 0x02;  // Response data format.
  page[4] = static_cast<std::uint8_t>(page.size() - 5);
  page[5] = 0x08;  // 3PC: EXTENDED COPY.
  page[7] = 0x02;  // Command queuing.
  std::memcpy(&page[8], kVendor.data(), kVendor.size());
  std::memcpy(&page[16], "TCMU device     ", 16);
  std::memcpy(&page[32], "0002", 4);
  // Version descriptors: SAM-5, SPC-4, SBC-3, iSCSI.
  constexpr std::array<std::uint16_t, 4> kStandards{0x00a0, 0x0460, 0x04c0, 0x0960};
  for (std::size_t i = 0; i < kStandards.size(); ++i) {
    put_big_endian(&page[58 + 2 * i], kStandards[i], 2);
  }
  return page;
}

std::vector<std::uint8_t> vital_page(Page code, std::size_t content) {
  std::vector<std::uint8_t> page(4 + content);
  page[1] = code;
  put_big_endian(&page[2], content, 2);
  return page;
}

std::vector<std::uint8_t> supported_pages() {
  constexpr std::array kPages{
      kSupportedPages, kUnitSerialNumber,           kDeviceIdentification,
      kBlockLimits,    kBlockDeviceCharacteristics, kLogicalBlockProvisioning};
  std::vector<std::uint8_t> page = vital_page(kSupportedPages, kPages.size());
  std::copy(kPages.begin(), kPages.end(), page.begin() + 4);
  return page;
}

std::vector<std::uint8_t> unit_serial_number(std::string_view serial) {
  // As in the runner's page, the final NUL belongs to it.
  std::vector<std::uint8_t> page = vital_page(kUnitSerialNumber, serial.size() + 1);
  std::copy(serial.begin(), serial.end(), page.begin() + 4);
  return page;
}

std::vector<std::uint8_t> t10_designator(std::string_view serial) {
  constexpr std::size_t kHead = 4;
  // One length byte for vendor, serial and a final NUL.
  constexpr std::size_t kLongestSerial = 255 - 8 - 1;
  serial = serial.substr(0, kLongestSerial);
  std::vector<std::uint8_t> designator(kHead + kVendor.size() + serial.size() + 1);
  designator[0] = 0x02;  // ASCII
  designator[1] = 0x01;  // T10 vendor
  designator[3] = static_cast<std::uint8_t>(designator.size() - kHead);
  std::copy(kVendor.begin(), kVendor.end(), &designator[kHead]);
  std::copy(serial.begin(), serial.end(), &designator[kHead + kVendor.size()]);
  return designator;
}

std::vector<std::uint8_t> device_identification(std::string_view serial) {
  const std::vector<std::uint8_t> t10 = t10_designator(serial);
  const NaaDesignator naa = naa_designator(serial);
  std::vector<std::uint8_t> page = vital_page(kDeviceIdentification, t10.size() + naa.size());
  std::copy(t10.begin(), t10.end(), &page[4]);
  std::copy(naa.begin(), naa.end(), &page[4 + t10.size()]);
  return page;
}

// SBC-4 6.6.4.
std::vector<std::uint8_t> block_limits(const Disk& disk) {
  constexpr std::uint32_t kNoLimit = 0xffffffff;
  constexpr std::uint32_t kAlignmentValid = 0x80000000;  // UGAVALID; the alignment itself is 0.
  std::vector<std::uint8_t> page = vital_page(kBlockLimits, 0x3c);
  // WSNZ is 0: a WRITE SAME of no block means the rest of the disk.
  page[5] = kMostCompareAndWriteBlocks;
  put_big_endian(&page[6], disk.granularity_blocks(), 2);
  put_big_endian(&page[8], disk.most_transfer_blocks, 4);
  const std::uint32_t good =
      std::min(disk.most_transfer_blocks, kGoodTransferBytes / disk.block_bytes);
  put_big_endian(&page[12], good / disk.granularity_blocks() * disk.granularity_blocks(), 4);
  put_big_endian(&page[20], kNoLimit, 4);
  put_big_endian(&page[24], kMostUnmapRanges, 4);
  put_big_endian(&page[28], disk.granularity_blocks(), 4);
  put_big_endian(&page[32], kAlignmentValid, 4);
  put_big_endian(&page[36], disk.longest_command_blocks(), 8);
  return page;
}

std::vector<std::uint8_t> block_device_characteristics() {
  std::vector<std::uint8_t> page = vital_page(kBlockDeviceCharacteristics, 0x3c);
  put_big_endian(&page[4], 1, 2);  // Does not rotate.
  return page;
}

std::vector<std::uint8_t> logical_block_provisioning() {
  std::vector<std::uint8_t> page = vital_page(kLogicalBlockProvisioning, 4);
  page[5] = 0xe4;  // LBPU, LBPWS, LBPWS10; LBPRZ: unmapped blocks read as zeroes.
  page[6] = 0x02;  // Thin provisioned.
  return page;
}

}  // namespace

bool inquiry_tells_of_ports(const std::uint8_t* cdb) {
  const bool vital = (cdb[1] & kVitalProductData) != 0;
  return vital ? cdb[2] == kDeviceIdentification : cdb[2] == 0;
}

bool inquiry_needs_serial(const std::uint8_t* cdb) {
  return (cdb[1] & kVitalProductData) != 0 &&
         (cdb[2] == kUnitSerialNumber || cdb[2] == kDeviceIdentification);
}

// NAA 6 with the company id 00 14 05 that LIO uses; the serial's hex digits fill the 25 nibbles
// that remain.
NaaDesignator naa_designator(std::string_view serial) {
  constexpr std::size_t kHead = 4;
  constexpr std::size_t kFixedNibbles = 7;  // 6, then 001405.
  NaaDesignator designator{0x01 /* binary */, 0x03 /* NAA */, 0x00, 16, 0x60, 0x01, 0x40, 0x50};
  std::size_t nibble = 2 * kHead + kFixedNibbles;
  for (const char c : serial) {
    const int digit = hex_digit(c);
    if (digit < 0) continue;
    if (nibble == 2 * designator.size()) break;
    std::uint8_t& byte = designator[nibble / 2];
    byte = static_cast<std::uint8_t>(byte | digit << (nibble % 2 == 0 ? 4 : 0));
    ++nibble;
  }
  return designator;
}

std::vector<std::uint8_t> inquiry_page(const std::uint8_t* cdb, const Disk& disk,
                                       std::string_view unit_serial) {
  constexpr std::uint8_t kCommandSupportData = 0x02;  // CMDDT, obsolete.
  if ((cdb[1] & kCommandSupportData) != 0) return {};
  if ((cdb[1] & kVitalProductData) == 0) {
    return cdb[2] == 0 ? standard_data() : std::vector<std::uint8_t>{};
  }
  switch (cdb[2]) {
    case kSupportedPages:
      return supported_pages();
    case kUnitSerialNumber:
      return unit_serial_number(unit_serial);
    case kDeviceIdentification:
      return device_identification(unit_serial);
    case kBlockLimits:
      return block_limits(disk);
    case kBlockDeviceCharacteristics:
      return block_device_characteristics();
    case kLogicalBlockProvisioning:
      return logical_block_provisioning();
    default:
      return {};
  }
}

}  // namespace clonedev::scsi
