// What SCSI says of a disk: the commands that ask, and their answers taken apart. Nothing here can
// write. Answers come from a server that may send anything, so nothing in them is taken for a
// length without a look at what was received; what was not received counts as zero.
//
// Sources: SPC-5 (INQUIRY 6.7, VPD pages 7.7), SBC-4 (READ CAPACITY 5.20, GET LBA STATUS 5.9).
// Pure. Units: bytes unless the name says sectors. Thread: any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "clonedev/error.h"
#include "origin/origin.h"

namespace clonedev {

struct ScsiCommand {
  std::array<unsigned char, 16> block{};
  int length = 16;  // Of the command block.
};

ScsiCommand test_unit_ready();
ScsiCommand inquiry(std::size_t room);
ScsiCommand inquiry_page(std::uint8_t page, std::size_t room);
ScsiCommand read_capacity(std::size_t room);
ScsiCommand read_sectors(std::uint64_t first, std::uint32_t sectors);
ScsiCommand get_lba_status(std::uint64_t first, std::size_t room);

constexpr std::uint8_t kDeviceIdentification = 0x83;
constexpr std::uint8_t kBlockLimits = 0xb0;

struct ScsiDisk {
  std::uint64_t size = 0;
  std::uint32_t sector = 0;        // A power of two from 512 to 65536.
  std::uint32_t most_sectors = 0;  // Of one READ; 0: the disk names no limit.
  bool unmapped_is_zero = false;   // LBPME and LBPRZ.
  std::string designator;          // "naa=...", "eui=...", "t10=..." or empty: it has none.
  bool operator==(const ScsiDisk&) const = default;
};

using ScsiBytes = std::span<const std::byte>;

// Errc::refused: there is no such LUN, or it is no disk. The sentence says only why.
Result<> check_inquiry(ScsiBytes answer);
// Sets size, sector and unmapped_is_zero. Errc::refused: empty, or nonsense.
Result<> take_capacity(ScsiBytes answer, ScsiDisk& disk);
// These two leave the disk as it is when the page is not what it should be.
void take_block_limits(ScsiBytes page, ScsiDisk& disk);
void take_designator(ScsiBytes page, ScsiDisk& disk);

// What GET LBA STATUS told of the range, in order, from its beginning; empty: nothing. Only
// "deallocated" is zero, and the caller has to ask unmapped_is_zero first.
std::vector<OriginExtent> take_lba_status(ScsiBytes answer, const ScsiDisk& disk, Extent range);

}  // namespace clonedev
