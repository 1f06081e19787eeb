// The parameter list of UNMAP (SBC-4 5.35).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scsi/cdb.h"
#include "scsi/disk.h"
#include "scsi/status.h"

namespace clonedev::scsi {

// The ranges of `list`, which is as long as the command block says or the initiator sent. One that
// lies outside of the disk, or a list that says it has more than it has, refuses the whole.
tl::expected<std::vector<Blocks>, Sense> parse_unmap_list(std::span<const std::uint8_t> list,
                                                          const Disk& disk);

}  // namespace clonedev::scsi
