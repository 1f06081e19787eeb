#include "device_commands.h"

#include <algorithm>
#include <new>
#include <vector>

#include "scsi/cdb.h"
#include "scsi/copy_list.h"
#include "scsi/data.h"
#include "scsi/format_list.h"
#include "scsi/unmap_list.h"
#include "steps/copy.h"
#include "steps/deallocation.h"
#include "steps/lba_status.h"
#include "steps/or_write.h"
#include "steps/repetition.h"
#include "steps/transfer.h"
#include "steps/verification.h"

namespace clonedev {
namespace {

using scsi::Blocks;
using scsi::Disk;
using scsi::Sense;
using Prepared = tl::expected<DeviceCommand, Sense>;

tl::unexpected<Sense> refuse(Sense sense) { return tl::unexpected(sense); }

std::span<const iovec> memory_of(const tcmulib_cmd& cmd) { return {cmd.iovec, cmd.iov_cnt}; }

Extent bytes_of(Blocks blocks, const Disk& disk) {
  return {blocks.lba * disk.block_bytes, blocks.count * disk.block_bytes};
}

template <class T, class... Arguments>
std::unique_ptr<Steps> make(Arguments&&... arguments) {
  return std::unique_ptr<Steps>(new (std::nothrow) T(std::forward<Arguments>(arguments)...));
}

// The range of a command that comes with, or wants, all of its data.
tl::expected<Extent, Sense> transferred(const tcmulib_cmd& cmd, const Disk& disk) {
  const Blocks blocks = scsi::blocks_of(cmd.cdb);
  if (!disk.holds(blocks.lba, blocks.count)) return refuse(scsi::kLbaOutOfRange);
  const Extent extent = bytes_of(blocks, disk);
  if (scsi::length_of(memory_of(cmd)) != extent.length) return refuse(scsi::kInvalidFieldInCdb);
  return extent;
}

Prepared prepare_transfer(const tcmulib_cmd& cmd, const Disk& disk, Operation operation) {
  const auto extent = transferred(cmd, disk);
  if (!extent) return refuse(extent.error());
  const auto direction =
      operation == Operation::read ? Transfer::Direction::read : Transfer::Direction::write;
  return DeviceCommand{operation, make<Transfer>(direction, *extent, memory_of(cmd))};
}

// BYTCHK 00b: the medium is good; 01b: it holds the data that come along.
Prepared prepare_verify(const tcmulib_cmd& cmd, const Disk& disk) {
  const bool compare = (cmd.cdb[1] & scsi::kByteCheck) != 0;
  const Blocks blocks = scsi::blocks_of(cmd.cdb);
  if (!disk.holds(blocks.lba, blocks.count)) return refuse(scsi::kLbaOutOfRange);
  if (blocks.count > disk.longest_command_blocks()) return refuse(scsi::kInvalidFieldInCdb);
  const Extent extent = bytes_of(blocks, disk);
  if (compare && scsi::length_of(memory_of(cmd)) != extent.length) {
    return refuse(scsi::kInvalidFieldInCdb);
  }
  // Memory that an initiator wants back by mistake holds an earlier command's data.
  if (!compare) scsi::answer({}, 0, memory_of(cmd));
  return DeviceCommand{Operation::verify,
                       VerifyRange::make(extent, memory_of(cmd), {.compare = compare})};
}

Prepared prepare_write_verify(const tcmulib_cmd& cmd, const Disk& disk) {
  const bool compare = (cmd.cdb[1] & scsi::kByteCheck) != 0;
  const auto extent = transferred(cmd, disk);
  if (!extent) return refuse(extent.error());
  return DeviceCommand{
      Operation::write_verify,
      VerifyRange::make(*extent, memory_of(cmd), {.write = true, .compare = compare})};
}

Prepared prepare_or_write(const tcmulib_cmd& cmd, const Disk& disk) {
  const auto extent = transferred(cmd, disk);
  if (!extent) return refuse(extent.error());
  if (extent->length > std::uint64_t{disk.most_transfer_blocks} * disk.block_bytes) {
    return refuse(scsi::kInvalidFieldInCdb);
  }
  return DeviceCommand{Operation::or_write,
                       OrWrite::make(*extent, memory_of(cmd), scsi::wants_fua(cmd.cdb))};
}

bool all_zero(std::span<const std::uint8_t> block) {
  return std::all_of(block.begin(), block.end(), [](std::uint8_t b) { return b == 0; });
}

Prepared prepare_write_same(const tcmulib_cmd& cmd, const Disk& disk) {
  Blocks blocks = scsi::blocks_of(cmd.cdb);
  if (!disk.holds(blocks.lba, blocks.count)) return refuse(scsi::kLbaOutOfRange);
  if (blocks.count == 0) blocks.count = disk.blocks - blocks.lba;  // WSNZ is 0.
  if (blocks.count > disk.longest_command_blocks() ||
      scsi::length_of(memory_of(cmd)) != disk.block_bytes) {
    return refuse(scsi::kInvalidFieldInCdb);
  }
  const std::vector<std::uint8_t> block = scsi::gather(memory_of(cmd), disk.block_bytes);
  const Extent extent = bytes_of(blocks, disk);
  if (!all_zero(block)) {
    return DeviceCommand{Operation::write_same,
                         Repetition::make(std::as_bytes(std::span(block)), extent)};
  }
  const bool give_back = (cmd.cdb[1] & scsi::kUnmap) != 0;
  return DeviceCommand{Operation::write_same,
                       make<ZeroRange>(extent, give_back ? Zeroing::deallocate : Zeroing::keep)};
}

Prepared prepare_unmap(const tcmulib_cmd& cmd, const Disk& disk) {
  const std::size_t said = scsi::blocks_of(cmd.cdb).count;
  const std::vector<std::uint8_t> list = scsi::gather(memory_of(cmd), said);
  if (list.size() < said) return refuse(scsi::kParameterListLengthError);
  const auto ranges = scsi::parse_unmap_list(list, disk);
  if (!ranges) return refuse(ranges.error());
  std::vector<Extent> extents;
  for (const Blocks& range : *ranges) extents.push_back(bytes_of(range, disk));
  return DeviceCommand{Operation::unmap, make<Deallocation>(std::move(extents))};
}

Prepared prepare_format(const tcmulib_cmd& cmd, const Disk& disk) {
  constexpr std::size_t kLongestHead = 8;
  const auto wrong = scsi::judge_format(cmd.cdb, scsi::gather(memory_of(cmd), kLongestHead));
  if (wrong) return refuse(*wrong);
  std::vector<Extent> extents;
  const Extent whole{0, disk.blocks * disk.block_bytes};
  constexpr std::uint64_t kStep = std::uint64_t{1} << 30;
  for (std::uint64_t at = 0; at < whole.length; at += kStep) {
    extents.push_back({at, std::min(kStep, whole.length - at)});
  }
  return DeviceCommand{Operation::format, make<Deallocation>(std::move(extents))};
}

Prepared prepare_copy(const tcmulib_cmd& cmd, const Disk& disk, std::string_view unit_serial) {
  constexpr std::size_t kLongestList = 65536;
  const std::size_t said = scsi::big_endian(cmd.cdb + 10, 4);
  const std::vector<std::uint8_t> list = scsi::gather(memory_of(cmd), std::min(said, kLongestList));
  if (list.size() < said) return refuse(scsi::kParameterListLengthError);
  const auto parsed = scsi::parse_copy_list(list, disk, unit_serial);
  if (!parsed) return refuse(parsed.error());
  std::vector<Copy::Segment> segments;
  for (const scsi::CopySegment& segment : *parsed) {
    segments.push_back({bytes_of({segment.source_lba, segment.blocks}, disk),
                        segment.destination_lba * disk.block_bytes});
  }
  return DeviceCommand{Operation::copy, Copy::make(std::move(segments))};
}

Prepared prepare_lba_status(const tcmulib_cmd& cmd, const Disk& disk) {
  const std::uint64_t lba = scsi::big_endian(cmd.cdb + 2, 8);
  if (lba >= disk.blocks) return refuse(scsi::kLbaOutOfRange);
  // A long walk over the map would hold up everything else; who wants more asks again.
  const std::uint64_t blocks = std::min(disk.blocks - lba, disk.longest_command_blocks());
  const Extent from = bytes_of({lba, blocks}, disk);
  return DeviceCommand{
      Operation::lba_status,
      make<LbaStatus>(from, disk.block_bytes, scsi::big_endian(cmd.cdb + 10, 4), memory_of(cmd))};
}

}  // namespace

Prepared prepare_device_command(const tcmulib_cmd& cmd, const Disk& disk,
                                std::string_view unit_serial) {
  switch (cmd.cdb[0]) {
    case scsi::kRead6:
      return prepare_transfer(cmd, disk, Operation::read);
    case scsi::kWrite6:
      return prepare_transfer(cmd, disk, Operation::write);
    case scsi::kVerify10:
    case scsi::kVerify12:
    case scsi::kVerify16:
      return prepare_verify(cmd, disk);
    case scsi::kWriteVerify10:
    case scsi::kWriteVerify12:
    case scsi::kWriteVerify16:
      return prepare_write_verify(cmd, disk);
    case scsi::kOrWrite16:
      return prepare_or_write(cmd, disk);
    case scsi::kWriteSame10:
    case scsi::kWriteSame16:
      return prepare_write_same(cmd, disk);
    case scsi::kUnmapRanges:
      return prepare_unmap(cmd, disk);
    case scsi::kFormatUnit:
      return prepare_format(cmd, disk);
    case scsi::kExtendedCopy:
      return prepare_copy(cmd, disk, unit_serial);
    case scsi::kServiceActionIn16:
      return prepare_lba_status(cmd, disk);
    default:
      return refuse(scsi::kInvalidOperationCode);
  }
}

}  // namespace clonedev
