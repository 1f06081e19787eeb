// What an initiator is told: sense codes, and the one place where an Error becomes one of them.
#pragma once

#include <cstdint>
#include <span>

#include "clonedev/error.h"
#include "tcmu_abi.h"

namespace clonedev {

enum class Operation {
  read,
  write,
  flush,
  unmap,
  write_same,
  compare_and_write,
  verify,
  write_verify,
  or_write,
  copy,
  format,
  lba_status,
};

using SenseBuffer = std::span<std::uint8_t, TCMU_SENSE_BYTES>;

namespace scsi {

// Sense key, then additional sense code and qualifier in one number (SPC-5 4.4).
struct Sense {
  std::uint8_t key = 0;
  std::uint16_t code = 0;

  friend bool operator==(const Sense&, const Sense&) = default;
};

// LOGICAL UNIT COMMUNICATION FAILURE, as a HARDWARE ERROR: docs/limits.md says why.
constexpr Sense kOriginLost{0x04, 0x0800};
constexpr Sense kParameterListLengthError{0x05, 0x1a00};
constexpr Sense kInvalidOperationCode{0x05, 0x2000};
constexpr Sense kLbaOutOfRange{0x05, 0x2100};
constexpr Sense kInvalidFieldInCdb{0x05, 0x2400};
constexpr Sense kInvalidFieldInParameterList{0x05, 0x2600};
constexpr Sense kTooManyTargetDescriptors{0x05, 0x2606};
constexpr Sense kUnsupportedTargetDescriptorType{0x05, 0x2607};
constexpr Sense kTooManySegmentDescriptors{0x05, 0x2608};
constexpr Sense kUnsupportedSegmentDescriptorType{0x05, 0x2609};
constexpr Sense kSavingParametersNotSupported{0x05, 0x3900};
constexpr Sense kWriteProtected{0x07, 0x2700};
constexpr Sense kSpaceAllocationFailed{0x07, 0x2707};
constexpr Sense kCopyTargetNotReachable{0x0a, 0x0d02};
constexpr Sense kCopyAborted{0x0a, 0x0000};

}  // namespace scsi

// Fills the buffer, which holds whatever the heap held, and returns the TCMU_STS_ that goes with
// it.
int check_condition(SenseBuffer buffer, scsi::Sense sense);

// A TCMU_STS_ value for tcmur_cmd_complete. `sense` is written only where the status alone does not
// say it all.
int to_tcmu_status(const Error& error, Operation operation, SenseBuffer sense);

// Has the command, when it has begun, perhaps changed something?
constexpr bool changes_data(Operation operation) {
  return operation != Operation::read && operation != Operation::flush &&
         operation != Operation::verify && operation != Operation::lba_status;
}

}  // namespace clonedev
