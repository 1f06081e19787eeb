// The parameter list of EXTENDED COPY (LID1), and what RECEIVE COPY RESULTS says is possible
// (SPC-5 6.6, 6.28): copies of blocks to blocks inside of the LUN that was asked.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "scsi/cdb.h"
#include "scsi/disk.h"
#include "scsi/status.h"

namespace clonedev::scsi {

struct CopySegment {
  std::uint64_t source_lba = 0;
  std::uint64_t destination_lba = 0;
  std::uint64_t blocks = 0;
};

// `list` is what the initiator sent. Only descriptors of this LUN, known by its NAA designator, can
// be source or destination.
tl::expected<std::vector<CopySegment>, Sense> parse_copy_list(std::span<const std::uint8_t> list,
                                                              const Disk& disk,
                                                              std::string_view unit_serial);

// RECEIVE COPY RESULTS, OPERATING PARAMETERS.
std::vector<std::uint8_t> copy_operating_parameters(const Disk& disk);

}  // namespace clonedev::scsi
