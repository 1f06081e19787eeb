// What the pages and the checks of commands have to know of a LUN.
#pragma once

#include <cstdint>
#include <string>

namespace clonedev::scsi {

// The longest WRITE SAME and VERIFY, and what GET LBA STATUS looks at: what a slow disk does in
// some seconds. A command of several steps that takes longer than 9 s is ended
// (Steps::begin_none_after).
constexpr std::uint64_t kLongestCommandBytes = std::uint64_t{128} << 20;
constexpr std::uint32_t kStateBlockBytes = 4096;  // What the clone keeps a state for.
constexpr std::uint32_t kGoodTransferBytes = 1024 * 1024;
constexpr std::uint32_t kMostUnmapRanges = 256;
constexpr std::uint32_t kMostCompareAndWriteBlocks = 1;

struct Disk {
  std::uint32_t block_bytes = 512;  // 512 or 4096.
  std::uint64_t blocks = 0;
  std::uint32_t most_transfer_blocks = 0;  // A READ or WRITE had better not be longer.
  bool write_cache = false;
  bool write_protected = false;

  std::uint64_t longest_command_blocks() const { return kLongestCommandBytes / block_bytes; }
  std::uint32_t granularity_blocks() const { return kStateBlockBytes / block_bytes; }
  bool holds(std::uint64_t lba, std::uint64_t count) const {
    return lba <= blocks && count <= blocks - lba;
  }
};

}  // namespace clonedev::scsi
