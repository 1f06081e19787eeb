// Command blocks: operation codes, and where their fields lie (SBC-4, SPC-5).
#pragma once

#include <cstddef>
#include <cstdint>

namespace clonedev::scsi {

enum Opcode : std::uint8_t {
  kTestUnitReady = 0x00,
  kRequestSense = 0x03,
  kFormatUnit = 0x04,
  kRead6 = 0x08,
  kWrite6 = 0x0a,
  kInquiry = 0x12,
  kReserve6 = 0x16,
  kRelease6 = 0x17,
  kModeSense6 = 0x1a,
  kStartStopUnit = 0x1b,
  kReadCapacity10 = 0x25,
  kRead10 = 0x28,
  kWrite10 = 0x2a,
  kWriteVerify10 = 0x2e,
  kVerify10 = 0x2f,
  kPreFetch10 = 0x34,
  kSynchronizeCache10 = 0x35,
  kReadDefectData10 = 0x37,
  kWriteSame10 = 0x41,
  kUnmapRanges = 0x42,
  kReserve10 = 0x56,
  kRelease10 = 0x57,
  kModeSense10 = 0x5a,
  kPersistentReserveIn = 0x5e,
  kPersistentReserveOut = 0x5f,
  kExtendedCopy = 0x83,
  kReceiveCopyResults = 0x84,
  kRead16 = 0x88,
  kCompareAndWrite = 0x89,
  kWrite16 = 0x8a,
  kOrWrite16 = 0x8b,
  kWriteVerify16 = 0x8e,
  kVerify16 = 0x8f,
  kPreFetch16 = 0x90,
  kSynchronizeCache16 = 0x91,
  kWriteSame16 = 0x93,
  kServiceActionIn16 = 0x9e,
  kReportLuns = 0xa0,
  kMaintenanceIn = 0xa3,
  kRead12 = 0xa8,
  kWrite12 = 0xaa,
  kWriteVerify12 = 0xae,
  kVerify12 = 0xaf,
  kReadDefectData12 = 0xb7,
};

// Service actions: the low five bits of byte 1.
constexpr std::uint8_t kServiceActionMask = 0x1f;
constexpr std::uint8_t kReadCapacity16 = 0x10;                  // Of SERVICE ACTION IN (16).
constexpr std::uint8_t kGetLbaStatus = 0x12;                    // Of SERVICE ACTION IN (16).
constexpr std::uint8_t kReportTargetPortGroups = 0x0a;          // Of MAINTENANCE IN.
constexpr std::uint8_t kReportSupportedOperationCodes = 0x0c;   // Of MAINTENANCE IN.
constexpr std::uint8_t kExtendedCopyLid1 = 0x00;                // Of EXTENDED COPY.
constexpr std::uint8_t kReceiveCopyOperatingParameters = 0x03;  // Of RECEIVE COPY RESULTS.

// Byte 1 of commands that move data.
constexpr std::uint8_t kFua = 0x08;
constexpr std::uint8_t kByteCheck = 0x06;  // BYTCHK of VERIFY and WRITE AND VERIFY.
constexpr std::uint8_t kByteCheckAll = 0x02;

// Byte 1 of WRITE SAME.
constexpr std::uint8_t kUnmap = 0x08;

constexpr std::uint64_t big_endian(const std::uint8_t* bytes, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

constexpr void put_big_endian(std::uint8_t* bytes, std::uint64_t value, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::uint8_t>(value >> 8 * (count - 1 - i));
  }
}

// How long a command block is, by the group of its operation code; 0: of no fixed length, and
// dropped by libtcmu.
constexpr std::size_t cdb_bytes(std::uint8_t opcode) {
  constexpr std::uint8_t kByGroup[] = {6, 10, 10, 0, 16, 12, 0, 0};
  return kByGroup[opcode >> 5];
}

// What a command that names blocks of the disk names; of UNMAP, the length of its list.
struct Blocks {
  std::uint64_t lba = 0;
  std::uint64_t count = 0;
};

constexpr Blocks blocks_of(const std::uint8_t* cdb) {
  switch (cdb_bytes(cdb[0])) {
    case 6: {
      constexpr std::uint64_t kZeroMeans = 256;
      return {big_endian(cdb + 1, 3) & 0x1fffff, cdb[4] != 0 ? cdb[4] : kZeroMeans};
    }
    case 10:
      return {big_endian(cdb + 2, 4), big_endian(cdb + 7, 2)};
    case 12:
      return {big_endian(cdb + 2, 4), big_endian(cdb + 6, 4)};
    default:
      if (cdb[0] == kCompareAndWrite) return {big_endian(cdb + 2, 8), cdb[13]};
      return {big_endian(cdb + 2, 8), big_endian(cdb + 10, 4)};
  }
}

// Must the command's data be durable when it completes?
constexpr bool wants_fua(const std::uint8_t* cdb) {
  switch (cdb[0]) {
    case kWrite10:
    case kWrite12:
    case kWrite16:
    case kOrWrite16:
    case kCompareAndWrite:
      return (cdb[1] & kFua) != 0;
    case kWriteVerify10:
    case kWriteVerify12:
    case kWriteVerify16:
      return true;  // What is verified is the medium (SBC-4 5.50).
    default:
      return false;
  }
}

}  // namespace clonedev::scsi
