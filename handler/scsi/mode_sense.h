// MODE SENSE (6) and (10).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "scsi/disk.h"
#include "scsi/status.h"

namespace clonedev::scsi {

// With the pages and values of the runner, but WP and DPOFUA as they are; nothing can be changed,
// and there is no MODE SELECT. Empty: refused, see below.
std::vector<std::uint8_t> mode_sense_page(const std::uint8_t* cdb, const Disk& disk);

// There is no such page, or it would have to be saved.
Sense mode_sense_refusal(const std::uint8_t* cdb);

std::size_t mode_sense_allocation(const std::uint8_t* cdb);

}  // namespace clonedev::scsi
