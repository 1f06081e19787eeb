// The commands of the LUN: who answers each, and what REPORT SUPPORTED OPERATION CODES says of it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "scsi/cdb.h"

namespace clonedev::scsi {

enum class Answerer : std::uint8_t {
  kernel,   // Does not come here.
  runner,   // tcmu-runner's own answer, or its way to a callout, is right.
  at_once,  // Answered by us without any I/O.
  device,   // Ours, and takes I/O.
};

struct Command {
  Opcode opcode;
  Answerer answerer;
  bool changes_data;
  // CDB USAGE DATA (SPC-5 6.36.3): the operation code, then the bits that mean something, with
  // those of a service action as they are.
  std::array<std::uint8_t, 16> usage;
  bool has_service_action = false;

  std::uint8_t service_action() const {
    return has_service_action ? usage[1] & kServiceActionMask : 0;
  }
  // Byte 1 sets a bit that means nothing here: protection information above all.
  bool has_unknown_flag(const std::uint8_t* cdb) const;
};

// Null: the LUN does not know this operation code.
const Command* find_opcode(std::uint8_t opcode);
// Null: it does not know this one, or not with this service action.
const Command* find_command(const std::uint8_t* cdb);

// Only where there are target port groups of one's own.
bool needs_port_groups(const Command& command);

// The answer to REPORT SUPPORTED OPERATION CODES; nothing: an invalid field in the command block.
std::optional<std::vector<std::uint8_t>> supported_operation_codes(const std::uint8_t* cdb,
                                                                   bool port_groups);

}  // namespace clonedev::scsi
