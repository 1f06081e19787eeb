// Reads and writes many units, neighbours in one request and several requests at a time.
//
// Errors: Errc::metadata_io with the units and the device's own words. Thread: the scheduler's.
#pragma once

#include <cstdint>
#include <span>

#include "io/block_device.h"
#include "metadata/disk_format.h"

namespace clonedev {

struct UnitTransfer {
  std::uint64_t unit;
  Unit* data;
};

// Ascending by unit. What `transfers` points to must outlive the task.
Task<Result<>> read_units(BlockDevice& device, std::span<const UnitTransfer> transfers);
Task<Result<>> write_units(BlockDevice& device, std::span<const UnitTransfer> transfers);
Task<Result<>> flush_units(BlockDevice& device);

}  // namespace clonedev
