#include "scsi/command_set.h"

#include <algorithm>

namespace clonedev::scsi {
namespace {

using enum Answerer;

constexpr std::uint8_t kGroup = 0x3f;  // GROUP NUMBER: taken and not used.

// clang-format off
constexpr std::array kCommands{
    Command{kTestUnitReady, runner, false, {0x00}},
    Command{kRequestSense, at_once, false, {0x03, 0x01, 0, 0, 0xff}},
    Command{kFormatUnit, device, true, {0x04, 0x38}},
    Command{kRead6, device, false, {0x08, 0x1f, 0xff, 0xff, 0xff}},
    Command{kWrite6, device, true, {0x0a, 0x1f, 0xff, 0xff, 0xff}},
    Command{kInquiry, at_once, false, {0x12, 0x01, 0xff, 0xff, 0xff}},
    Command{kReserve6, kernel, false, {0x16}},
    Command{kRelease6, kernel, false, {0x17}},
    Command{kModeSense6, at_once, false, {0x1a, 0x08, 0xff, 0xff, 0xff}},
    Command{kStartStopUnit, runner, false, {0x1b, 0x01, 0, 0, 0x01}},
    Command{kReadCapacity10, runner, false, {0x25}},
    Command{kRead10, runner, false, {0x28, 0x18, 0xff, 0xff, 0xff, 0xff, kGroup, 0xff, 0xff}},
    Command{kWrite10, runner, true, {0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, kGroup, 0xff, 0xff}},
    Command{kWriteVerify10, device, true,
            {0x2e, 0x12, 0xff, 0xff, 0xff, 0xff, kGroup, 0xff, 0xff}},
    Command{kVerify10, device, false, {0x2f, 0x12, 0xff, 0xff, 0xff, 0xff, kGroup, 0xff, 0xff}},
    Command{kPreFetch10, at_once, false, {0x34, 0x02, 0xff, 0xff, 0xff, 0xff, kGroup, 0xff, 0xff}},
    Command{kSynchronizeCache10, runner, false,
            {0x35, 0x06, 0xff, 0xff, 0xff, 0xff, kGroup, 0xff, 0xff}},
    Command{kReadDefectData10, at_once, false, {0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff}},
    Command{kWriteSame10, device, true, {0x41, 0x08, 0xff, 0xff, 0xff, 0xff, kGroup, 0xff, 0xff}},
    Command{kUnmapRanges, device, true, {0x42, 0, 0, 0, 0, 0, kGroup, 0xff, 0xff}},
    Command{kReserve10, kernel, false, {0x56}},
    Command{kRelease10, kernel, false, {0x57}},
    Command{kModeSense10, at_once, false, {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff}},
    // READ KEYS, READ RESERVATION, REPORT CAPABILITIES, READ FULL STATUS.
    Command{kPersistentReserveIn, kernel, false, {0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff}, true},
    Command{kPersistentReserveIn, kernel, false, {0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff}, true},
    Command{kPersistentReserveIn, kernel, false, {0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff}, true},
    Command{kPersistentReserveIn, kernel, false, {0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff}, true},
    // REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT AND ABORT, REGISTER AND IGNORE EXISTING
    // KEY, REGISTER AND MOVE.
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x00, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x03, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x06, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kPersistentReserveOut, kernel, false, {0x5f, 0x07, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kExtendedCopy, device, true,
            {0x83, kExtendedCopyLid1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kReceiveCopyResults, at_once, false,
            {0x84, kReceiveCopyOperatingParameters, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
            true},
    Command{kRead16, runner, false,
            {0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kCompareAndWrite, runner, true,
            {0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, kGroup}},
    Command{kWrite16, runner, true,
            {0x8a, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kOrWrite16, device, true,
            {0x8b, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kWriteVerify16, device, true,
            {0x8e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kVerify16, device, false,
            {0x8f, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kPreFetch16, at_once, false,
            {0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kSynchronizeCache16, runner, false,
            {0x91, 0x06, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kWriteSame16, device, true,
            {0x93, 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kServiceActionIn16, at_once, false,
            {0x9e, kReadCapacity16, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kServiceActionIn16, device, false,
            {0x9e, kGetLbaStatus, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
            true},
    Command{kReportLuns, kernel, false, {0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
    Command{kMaintenanceIn, runner, false,
            {0xa3, kReportTargetPortGroups, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, true},
    Command{kMaintenanceIn, at_once, false,
            {0xa3, kReportSupportedOperationCodes, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
            true},
    Command{kRead12, runner, false, {0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kWrite12, runner, true, {0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kWriteVerify12, device, true,
            {0xae, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kVerify12, device, false,
            {0xaf, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, kGroup}},
    Command{kReadDefectData12, at_once, false,
            {0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
};
// clang-format on

// Command timeouts descriptor (SPC-5 6.36.4): nothing is said about times.
constexpr std::size_t kTimeoutsBytes = 12;
constexpr std::uint8_t kTimeoutsLength = kTimeoutsBytes - 2;

std::vector<std::uint8_t> all_commands(bool with_timeouts, bool port_groups) {
  constexpr std::size_t kHead = 4;
  constexpr std::size_t kDescriptor = 8;
  std::vector<std::uint8_t> page(kHead);
  for (const Command& command : kCommands) {
    if (needs_port_groups(command) && !port_groups) continue;
    const std::size_t at = page.size();
    page.resize(at + kDescriptor + (with_timeouts ? kTimeoutsBytes : 0));
    page[at] = command.opcode;
    put_big_endian(&page[at + 2], command.service_action(), 2);
    page[at + 5] = static_cast<std::uint8_t>((with_timeouts ? 0x02 : 0) |
                                             (command.has_service_action ? 1 : 0));
    put_big_endian(&page[at + 6], cdb_bytes(command.opcode), 2);
    if (with_timeouts) put_big_endian(&page[at + kDescriptor], kTimeoutsLength, 2);
  }
  put_big_endian(page.data(), page.size() - kHead, 4);
  return page;
}

std::vector<std::uint8_t> one_command(const Command* command, bool with_timeouts) {
  enum Support : std::uint8_t { kNotSupported = 1, kAsInTheStandard = 3 };
  constexpr std::size_t kHead = 4;
  if (command == nullptr) return {0, kNotSupported, 0, 0};
  const std::size_t length = cdb_bytes(command->opcode);
  std::vector<std::uint8_t> page(kHead + length + (with_timeouts ? kTimeoutsBytes : 0));
  page[1] = static_cast<std::uint8_t>((with_timeouts ? 0x80 : 0) | kAsInTheStandard);
  put_big_endian(&page[2], length, 2);
  std::copy_n(command->usage.begin(), length, &page[kHead]);
  if (with_timeouts) put_big_endian(&page[kHead + length], kTimeoutsLength, 2);
  return page;
}

}  // namespace

bool needs_port_groups(const Command& command) {
  return command.opcode == kMaintenanceIn && command.service_action() == kReportTargetPortGroups;
}

bool Command::has_unknown_flag(const std::uint8_t* cdb) const {
  // The short commands once had a LUN in there, and old initiators still may.
  constexpr std::size_t kShort = 6;
  return cdb_bytes(opcode) > kShort && !has_service_action && (cdb[1] & ~usage[1]) != 0;
}

const Command* find_opcode(std::uint8_t opcode) {
  const auto* const found =
      std::find_if(kCommands.begin(), kCommands.end(),
                   [opcode](const Command& command) { return command.opcode == opcode; });
  return found != kCommands.end() ? found : nullptr;
}

const Command* find_command(const std::uint8_t* cdb) {
  const auto* const found =
      std::find_if(kCommands.begin(), kCommands.end(), [cdb](const Command& command) {
        return command.opcode == cdb[0] &&
               (!command.has_service_action ||
                command.service_action() == (cdb[1] & kServiceActionMask));
      });
  return found != kCommands.end() ? found : nullptr;
}

std::optional<std::vector<std::uint8_t>> supported_operation_codes(const std::uint8_t* cdb,
                                                                   bool port_groups) {
  enum Options : std::uint8_t { kAll, kOneOpcode, kOneServiceAction, kEither };
  const bool with_timeouts = (cdb[2] & 0x80) != 0;
  const std::uint8_t options = cdb[2] & 0x07;
  if (options == kAll) return all_commands(with_timeouts, port_groups);
  if (options > kEither) return std::nullopt;
  const std::uint64_t service_action = big_endian(cdb + 4, 2);
  const Command* const opcode = find_opcode(cdb[3]);
  if (opcode != nullptr && opcode->has_service_action && options == kOneOpcode) {
    return std::nullopt;
  }
  if (opcode != nullptr && !opcode->has_service_action && options == kOneServiceAction) {
    return std::nullopt;
  }
  if (opcode == nullptr || service_action > kServiceActionMask) {
    return one_command(nullptr, with_timeouts);
  }
  const std::uint8_t wanted[] = {cdb[3], static_cast<std::uint8_t>(service_action)};
  const Command* command = find_command(wanted);
  const bool none_of_that_action =
      command != nullptr && !command->has_service_action && service_action != 0;
  const bool hidden = command != nullptr && needs_port_groups(*command) && !port_groups;
  if (none_of_that_action || hidden) command = nullptr;
  return one_command(command, with_timeouts);
}

}  // namespace clonedev::scsi
