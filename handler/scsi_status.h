// The one place where an Error becomes what the initiator is told.
#pragma once

#include <cstdint>
#include <span>

#include "clonedev/error.h"
#include "tcmu_abi.h"

namespace clonedev {

enum class Operation { read, write, flush, unmap, write_same, compare_and_write };

using SenseBuffer = std::span<std::uint8_t, TCMU_SENSE_BYTES>;

// A TCMU_STS_ value for tcmur_cmd_complete. `sense` is written only where the status alone does not
// say it all; it is zeroed first, since libtcmu hands it out with whatever the heap held.
int to_tcmu_status(const Error& error, Operation operation, SenseBuffer sense);

// 07/2700, for what must not even reach the clone.
int write_protected(SenseBuffer sense);

}  // namespace clonedev
