// The bytes of metadata units, and nothing else. Specified in docs/metadata-format.md; offsets
// are asserted below. In core types come from superblock.h and core/state_pages.h.
//
// Everything is little endian. Le32 and Le64 convert only explicitly, so a forgotten swap does
// not compile. Pure: no I/O, no thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "clonedev/error.h"
#include "metadata/superblock.h"

namespace clonedev {

template <class T>
class LittleEndian {
 public:
  LittleEndian() = default;
  explicit constexpr LittleEndian(T value) : bytes_{} {
    for (std::size_t i = 0; i < sizeof(T); ++i)
      bytes_[i] = static_cast<std::uint8_t>(value >> 8 * i);
  }
  constexpr T value() const {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(bytes_[i]) << 8 * i;
    return value;
  }

 private:
  std::array<std::uint8_t, sizeof(T)> bytes_;
};
using Le32 = LittleEndian<std::uint32_t>;
using Le64 = LittleEndian<std::uint64_t>;

// One unit as it goes to the device; aligned for O_DIRECT.
struct alignas(kUnitBytes) Unit {
  std::array<std::byte, kUnitBytes> bytes;
};

inline constexpr std::array<char, 8> kMagic{'t', 'c', 'm', 'u', 'c', 'l', 'o', 'n'};
inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::uint32_t kKnownIncompat = 0;
// More than any device lives to see. Without a limit a forged one would wrap around at the second
// commit, into metadata that nothing opens.
inline constexpr std::uint64_t kMaxSequence = std::uint64_t{1} << 62;

enum SuperblockFlags : std::uint32_t {
  kFlagClean = 1,
  kFlagComplete = 2,
  kFlagNeedsCheck = 4,
  kKnownFlags = 7,
};

struct DiskRef {
  Le64 where;
  Le64 checksum;
};

struct DiskSuperblock {
  std::array<char, 8> magic;
  Le32 version;
  Le32 compat;
  Le32 incompat;
  Le32 flags;
  Le64 sequence;
  Id uuid;
  Id attach_id;
  Id boot_id;
  Id machine_id;
  Le64 size_bytes;
  Le64 region_size;
  Le64 units;
  Le32 depth;
  Le32 reserved0;
  Le64 origin_size;
  std::array<char, 128> name;  // These four end with a NUL.
  std::array<char, 256> origin_identity;
  std::array<char, 256> destination_identity;
  std::array<char, 256> reason;
  std::array<std::uint8_t, 1008> reserved1;
  std::array<DiskRef, kRootRefs> roots;
  Le64 checksum;
};

struct DiskNode {
  std::array<DiskRef, kNodeRefs> refs;
};

struct DiskStatePage {
  std::array<Le64, StatePages::kWordsPerPage> words;
};

static_assert(offsetof(DiskSuperblock, magic) == 0);
static_assert(offsetof(DiskSuperblock, version) == 8);
static_assert(offsetof(DiskSuperblock, compat) == 12);
static_assert(offsetof(DiskSuperblock, incompat) == 16);
static_assert(offsetof(DiskSuperblock, flags) == 20);
static_assert(offsetof(DiskSuperblock, sequence) == 24);
static_assert(offsetof(DiskSuperblock, uuid) == 32);
static_assert(offsetof(DiskSuperblock, attach_id) == 48);
static_assert(offsetof(DiskSuperblock, boot_id) == 64);
static_assert(offsetof(DiskSuperblock, machine_id) == 80);
static_assert(offsetof(DiskSuperblock, size_bytes) == 96);
static_assert(offsetof(DiskSuperblock, region_size) == 104);
static_assert(offsetof(DiskSuperblock, units) == 112);
static_assert(offsetof(DiskSuperblock, depth) == 120);
static_assert(offsetof(DiskSuperblock, reserved0) == 124);
static_assert(offsetof(DiskSuperblock, origin_size) == 128);
static_assert(offsetof(DiskSuperblock, name) == 136);
static_assert(offsetof(DiskSuperblock, origin_identity) == 264);
static_assert(offsetof(DiskSuperblock, destination_identity) == 520);
static_assert(offsetof(DiskSuperblock, reason) == 776);
static_assert(offsetof(DiskSuperblock, reserved1) == 1032);
static_assert(offsetof(DiskSuperblock, roots) == 2040);
static_assert(offsetof(DiskSuperblock, checksum) == 4088);
static_assert(sizeof(DiskSuperblock) == kUnitBytes && sizeof(Unit) == kUnitBytes);
static_assert(sizeof(DiskNode) == kUnitBytes && sizeof(DiskStatePage) == kUnitBytes);

using PageWords = std::array<std::uint64_t, StatePages::kWordsPerPage>;

// XXH3, 64 bits, seeded with the number of the unit: the right bytes in the wrong place fail.
std::uint64_t checksum_of(std::span<const std::byte> bytes, std::uint64_t unit);

SlotContent look_at_slot(const Unit& unit, std::uint64_t slot);

// Strings that are too long are cut. The checksum is for unit sequence % 2.
void pack(const Superblock& superblock, Unit& unit);
// Of a sealed slot. Errc::refused for a newer format, Errc::damaged for values that cannot be.
Result<Superblock> unpack_superblock(const Unit& unit, std::uint64_t slot);

void pack(std::span<const PageRef, kNodeRefs> refs, Unit& unit);
void unpack(const Unit& unit, std::span<PageRef, kNodeRefs> refs);

void pack(const PageWords& words, Unit& unit);
void unpack(const Unit& unit, PageWords& words);

}  // namespace clonedev
