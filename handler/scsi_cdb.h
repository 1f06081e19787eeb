// The few bits of a SCSI command block that the handler itself looks at (SBC-4, SPC-5).
#pragma once

#include <cstdint>

namespace clonedev::scsi {

enum Opcode : std::uint8_t {
  kFormatUnit = 0x04,
  kWrite6 = 0x0a,
  kInquiry = 0x12,
  kModeSense6 = 0x1a,
  kWrite10 = 0x2a,
  kWriteVerify10 = 0x2e,
  kWriteSame10 = 0x41,
  kUnmapRanges = 0x42,
  kModeSense10 = 0x5a,
  kExtendedCopy = 0x83,
  kReceiveCopyResults = 0x84,
  kCompareAndWrite = 0x89,
  kWrite16 = 0x8a,
  kWriteVerify16 = 0x8e,
  kWriteSame16 = 0x93,
  kWrite12 = 0xaa,
  kWriteVerify12 = 0xae,
};

// Would the command, if it succeeded, change what the LUN holds?
constexpr bool changes_data(const std::uint8_t* cdb) {
  switch (cdb[0]) {
    case kWrite6:
    case kWrite10:
    case kWrite12:
    case kWrite16:
    case kWriteVerify10:
    case kWriteVerify12:
    case kWriteVerify16:
    case kWriteSame10:
    case kWriteSame16:
    case kUnmapRanges:
    case kCompareAndWrite:
      return true;
    default:
      return false;
  }
}

// Byte 1 of READ/WRITE and COMPARE AND WRITE.
constexpr std::uint8_t kFua = 0x08;

// Byte 1 of WRITE SAME.
constexpr std::uint8_t kNoDataOut = 0x01;  // NDOB, the 16-byte form only.
constexpr std::uint8_t kLbdata = 0x02;     // Obsolete: each block carries its address.
constexpr std::uint8_t kPbdata = 0x04;     // Obsolete.
constexpr std::uint8_t kUnmap = 0x08;
constexpr std::uint8_t kAnchor = 0x10;

// Must the command's data be durable when it completes? In compound commands the block is that of
// the compound one, which is why the operation code is looked at.
constexpr bool wants_fua(const std::uint8_t* cdb) {
  switch (cdb[0]) {
    case kWrite10:
    case kWrite12:
    case kWrite16:
    case kCompareAndWrite:
      return (cdb[1] & kFua) != 0;
    default:
      return false;
  }
}

}  // namespace clonedev::scsi
