#include "metadata/disk_format.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace clonedev {
namespace {

constexpr std::size_t kSealedBytes = offsetof(DiskSuperblock, checksum);

template <std::size_t N>
void put_text(std::array<char, N>& field, const std::string& text) {
  std::copy_n(text.begin(), std::min(text.size(), N - 1), field.begin());
}

template <std::size_t N>
bool get_text(const std::array<char, N>& field, std::string& text) {
  const auto end = std::find(field.begin(), field.end(), '\0');
  text.assign(field.begin(), end);
  return end != field.end();
}

DiskRef to_disk(const PageRef& ref) { return {Le64(ref.where), Le64(ref.checksum)}; }
PageRef to_core(const DiskRef& ref) { return {ref.where.value(), ref.checksum.value()}; }

tl::unexpected<Error> damaged(std::uint64_t slot, const std::string& what) {
  return fail(Errc::damaged,
              fmt::format("metadata: superblock slot {} has a valid checksum but {}: it was not "
                          "written by this program: restore the metadata from a dump or a backup",
                          slot, what));
}

Result<> check_version(const DiskSuperblock& disk) {
  if (disk.version.value() > kFormatVersion) {
    return fail(Errc::refused,
                fmt::format("metadata: format version {} is newer than {}, which this program "
                            "knows: install the newer version of tcmu-clone",
                            disk.version.value(), kFormatVersion));
  }
  if (const std::uint32_t unknown = disk.incompat.value() & ~kKnownIncompat; unknown != 0) {
    return fail(Errc::refused,
                fmt::format("metadata: it uses features ({:#x}) that this program does not know: "
                            "install the newer version of tcmu-clone",
                            unknown));
  }
  return {};
}

// What is wrong with the numbers; empty when nothing is.
std::string check_numbers(const Superblock& core, std::uint32_t flags, std::uint64_t slot) {
  if (core.sequence > kMaxSequence) return fmt::format("sequence {} is impossible", core.sequence);
  if (core.sequence == 0 || core.sequence % kSuperblockSlots != slot) {
    return fmt::format("its sequence {} belongs to the other slot", core.sequence);
  }
  if ((flags & ~static_cast<std::uint32_t>(kKnownFlags)) != 0) {
    return fmt::format("unknown flags {:#x}", flags);
  }
  if (core.size_bytes == 0 || core.size_bytes % kSectorSize != 0 ||
      core.size_bytes > kMaxDiskBytes) {
    return fmt::format("a disk of {} bytes is impossible", core.size_bytes);
  }
  if (!std::has_single_bit(core.region_size) || core.region_size < kBlockSize ||
      core.region_size > std::uint64_t{1} << 30) {
    return fmt::format("a region size of {} bytes is impossible", core.region_size);
  }
  if (core.depth != depth_for(pages_for(core.size_bytes))) {
    return fmt::format("a tree of depth {} does not fit a disk of {} bytes", core.depth,
                       core.size_bytes);
  }
  if (core.units < least_units_for(core.size_bytes) ||
      core.units > ~std::uint64_t{0} / kUnitBytes) {
    return fmt::format("{} units do not fit a disk of {} bytes", core.units, core.size_bytes);
  }
  return {};
}

}  // namespace

std::uint64_t checksum_of(std::span<const std::byte> bytes, std::uint64_t unit) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), unit);
}

SlotContent look_at_slot(const Unit& unit, std::uint64_t slot) {
  const auto zero = [](std::byte b) { return b == std::byte{0}; };
  if (std::all_of(unit.bytes.begin(), unit.bytes.end(), zero)) return SlotContent::blank;
  const auto disk = std::bit_cast<DiskSuperblock>(unit.bytes);
  if (disk.magic != kMagic) return SlotContent::foreign;
  const std::uint64_t checksum = checksum_of(std::span(unit.bytes).first(kSealedBytes), slot);
  return checksum == disk.checksum.value() ? SlotContent::sealed : SlotContent::torn;
}

void pack(const Superblock& core, Unit& unit) {
  DiskSuperblock disk{};
  disk.magic = kMagic;
  disk.version = Le32(kFormatVersion);
  disk.flags = Le32((core.clean ? kFlagClean : 0u) | (core.complete ? kFlagComplete : 0u) |
                    (core.needs_check ? kFlagNeedsCheck : 0u));
  disk.sequence = Le64(core.sequence);
  disk.uuid = core.uuid;
  disk.attach_id = core.attach_id;
  disk.boot_id = core.boot_id;
  disk.machine_id = core.machine_id;
  disk.size_bytes = Le64(core.size_bytes);
  disk.region_size = Le64(core.region_size);
  disk.units = Le64(core.units);
  disk.depth = Le32(core.depth);
  disk.origin_size = Le64(core.origin_size);
  put_text(disk.name, core.name);
  put_text(disk.origin_identity, core.origin_identity);
  put_text(disk.destination_identity, core.destination_identity);
  put_text(disk.reason, core.reason);
  std::transform(core.roots.begin(), core.roots.end(), disk.roots.begin(), to_disk);
  std::memcpy(unit.bytes.data(), &disk, kUnitBytes);
  const Le64 checksum(
      checksum_of(std::span(unit.bytes).first(kSealedBytes), core.sequence % kSuperblockSlots));
  std::memcpy(unit.bytes.data() + kSealedBytes, &checksum, sizeof checksum);
}

Result<Superblock> unpack_superblock(const Unit& unit, std::uint64_t slot) {
  const auto disk = std::bit_cast<DiskSuperblock>(unit.bytes);
  if (const auto known = check_version(disk); !known) return fail(known.error());
  Superblock core;
  core.sequence = disk.sequence.value();
  core.uuid = disk.uuid;
  core.size_bytes = disk.size_bytes.value();
  core.region_size = disk.region_size.value();
  core.units = disk.units.value();
  core.depth = disk.depth.value();
  core.attach_id = disk.attach_id;
  core.boot_id = disk.boot_id;
  core.machine_id = disk.machine_id;
  const std::uint32_t flags = disk.flags.value();
  core.clean = flags & kFlagClean;
  core.complete = flags & kFlagComplete;
  core.needs_check = flags & kFlagNeedsCheck;
  core.origin_size = disk.origin_size.value();
  std::transform(disk.roots.begin(), disk.roots.end(), core.roots.begin(), to_core);
  if (const std::string wrong = check_numbers(core, flags, slot); !wrong.empty()) {
    return damaged(slot, wrong);
  }
  if (!get_text(disk.name, core.name)) return damaged(slot, "the name of the clone has no end");
  if (core.name.empty()) return damaged(slot, "the clone has no name");
  if (!get_text(disk.origin_identity, core.origin_identity) ||
      !get_text(disk.destination_identity, core.destination_identity)) {
    return damaged(slot, "the identity of the origin or the destination has no end");
  }
  if (!get_text(disk.reason, core.reason)) return damaged(slot, "the reason text has no end");
  return core;
}

void pack(std::span<const PageRef, kNodeRefs> refs, Unit& unit) {
  DiskNode disk;
  std::transform(refs.begin(), refs.end(), disk.refs.begin(), to_disk);
  std::memcpy(unit.bytes.data(), &disk, kUnitBytes);
}

void unpack(const Unit& unit, std::span<PageRef, kNodeRefs> refs) {
  const auto disk = std::bit_cast<DiskNode>(unit.bytes);
  std::transform(disk.refs.begin(), disk.refs.end(), refs.begin(), to_core);
}

void pack(const PageWords& words, Unit& unit) {
  DiskStatePage disk;
  std::transform(words.begin(), words.end(), disk.words.begin(),
                 [](std::uint64_t word) { return Le64(word); });
  std::memcpy(unit.bytes.data(), &disk, kUnitBytes);
}

void unpack(const Unit& unit, PageWords& words) {
  const auto disk = std::bit_cast<DiskStatePage>(unit.bytes);
  std::transform(disk.words.begin(), disk.words.end(), words.begin(),
                 [](Le64 word) { return word.value(); });
}

}  // namespace clonedev
