// Answers to commands that need no I/O and have no page of their own.
#pragma once

#include <cstdint>
#include <vector>

#include "scsi/disk.h"

namespace clonedev::scsi {

// READ CAPACITY (16), with physical blocks of 4 KiB: what the clone keeps a state for.
std::vector<std::uint8_t> read_capacity_16(const Disk& disk);

// REQUEST SENSE: nothing is deferred, so there is never any (SPC-5 6.39).
std::vector<std::uint8_t> no_sense(const std::uint8_t* cdb);

// READ DEFECT DATA (10) or (12): the lists that were asked for are empty (SBC-4 5.20).
std::vector<std::uint8_t> no_defects(const std::uint8_t* cdb);

}  // namespace clonedev::scsi
