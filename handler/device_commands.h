// From the command block of a command that takes I/O, and is not simply a READ, WRITE or FLUSH, to
// the steps that do it.
#pragma once

#include <memory>
#include <string_view>

#include "scsi/disk.h"
#include "scsi/status.h"
#include "steps/steps.h"
#include "tcmu_abi.h"

namespace clonedev {

struct DeviceCommand {
  Operation operation;
  std::unique_ptr<Steps> steps;  // Null: memory is short.
};

// Checks everything that can be checked without I/O. The command's memory is used until its steps
// are done; nothing is done yet.
tl::expected<DeviceCommand, scsi::Sense> prepare_device_command(const tcmulib_cmd& cmd,
                                                                const scsi::Disk& disk,
                                                                std::string_view unit_serial);

}  // namespace clonedev
