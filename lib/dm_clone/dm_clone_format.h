// The bytes on the metadata device of the kernel's dm-clone, version 1, as far as a reader of its
// region map needs them: Linux drivers/md/dm-clone-metadata.c, persistent-data/dm-array.c,
// dm-btree-internal.h and dm-btree-spine.c. Everything is little endian, blocks are 4096 bytes.
//
//   block 0: superblock -> b-tree -> array blocks -> words with one bit a region, 1: hydrated
//
// Each kind of block begins with a CRC-32C of all that follows it in the block, without the final
// inversion, xor a number of its kind; and says where it is meant to lie.
//
// Pure: no I/O, no thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "metadata/disk_format.h"

namespace clonedev::dm_clone {

inline constexpr std::size_t kBlockBytes = 4096;
inline constexpr std::uint64_t kSectorBytes = 512;

enum class BlockKind : std::uint32_t {  // The number that its checksum is xored with.
  superblock = 257649492,
  node = 121107,
  array = 595846735,
};

struct DiskSuperblock {
  Le32 checksum;
  Le32 flags;
  Le64 block;
  std::array<std::uint8_t, 16> uuid;
  Le64 magic;
  Le32 version;
  std::array<std::uint8_t, 128> space_map_root;
  Le64 region_sectors;
  Le64 target_sectors;
  Le64 bitset_root;
};

enum NodeFlags : std::uint32_t { kInternalNode = 1, kLeafNode = 2 };

struct DiskNodeHeader {
  Le32 checksum;
  Le32 flags;
  Le64 block;
  Le32 entries;
  Le32 most_entries;  // Keys have room for these; the values begin behind them.
  Le32 value_bytes;
  Le32 padding;
};

struct DiskArrayHeader {
  Le32 checksum;
  Le32 most_entries;
  Le32 entries;
  Le32 value_bytes;
  Le64 block;
};

inline constexpr std::uint64_t kMagic = 0x8af27f64;
inline constexpr std::uint32_t kVersion = 1;
inline constexpr std::size_t kArrayWords = (kBlockBytes - sizeof(DiskArrayHeader)) / sizeof(Le64);

static_assert(offsetof(DiskSuperblock, magic) == 32 && offsetof(DiskSuperblock, version) == 40);
static_assert(offsetof(DiskSuperblock, space_map_root) == 44);
static_assert(offsetof(DiskSuperblock, region_sectors) == 172);
static_assert(offsetof(DiskSuperblock, bitset_root) == 188 && sizeof(DiskSuperblock) == 196);
static_assert(sizeof(DiskNodeHeader) == 32 && sizeof(DiskArrayHeader) == 24);

// What the first four bytes of such a block have to be.
std::uint32_t checksum_of(BlockKind kind, std::span<const std::byte, kBlockBytes> block);

// The structure at that offset, which lies inside the block.
template <class T>
T read_at(std::span<const std::byte, kBlockBytes> block, std::size_t offset) {
  T value;
  std::memcpy(&value, block.data() + offset, sizeof value);
  return value;
}
inline std::uint64_t word_at(std::span<const std::byte, kBlockBytes> block, std::size_t offset) {
  return read_at<Le64>(block, offset).value();
}

}  // namespace clonedev::dm_clone
