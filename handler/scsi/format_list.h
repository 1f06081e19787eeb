// The parameter list of FORMAT UNIT (SBC-4 5.4).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "scsi/status.h"

namespace clonedev::scsi {

// What is wrong with asking for this; nothing when all it asks for is a disk of zeroes. `list` is
// what the initiator sent.
std::optional<Sense> judge_format(const std::uint8_t* cdb, std::span<const std::uint8_t> list);

}  // namespace clonedev::scsi
