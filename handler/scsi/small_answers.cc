#include "scsi/small_answers.h"

#include <bit>

#include "scsi/cdb.h"

namespace clonedev::scsi {

std::vector<std::uint8_t> read_capacity_16(const Disk& disk) {
  constexpr std::uint8_t kLbpme = 0x80;  // Blocks can be unmapped,
  constexpr std::uint8_t kLbprz = 0x40;  // and then read as zeroes.
  std::vector<std::uint8_t> page(32);
  put_big_endian(&page[0], disk.blocks - 1, 8);
  put_big_endian(&page[8], disk.block_bytes, 4);
  page[13] = static_cast<std::uint8_t>(std::countr_zero(disk.granularity_blocks()));
  page[14] = kLbpme | kLbprz;
  return page;
}

std::vector<std::uint8_t> no_sense(const std::uint8_t* cdb) {
  const bool descriptor_format = (cdb[1] & 0x01) != 0;
  if (descriptor_format) return {0x72, 0, 0, 0, 0, 0, 0, 0};
  std::vector<std::uint8_t> sense(18);
  sense[0] = 0x70;
  sense[7] = static_cast<std::uint8_t>(sense.size() - 8);
  return sense;
}

std::vector<std::uint8_t> no_defects(const std::uint8_t* cdb) {
  const bool ten = cdb[0] == kReadDefectData10;
  std::vector<std::uint8_t> header(ten ? 4 : 8);
  header[1] = (ten ? cdb[2] : cdb[1]) & 0x1f;  // Which lists, in which format.
  return header;
}

}  // namespace clonedev::scsi
