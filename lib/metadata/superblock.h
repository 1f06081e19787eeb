// The root of the metadata in core, and its two slots on the device.
//
// Sequence n lies in slot n % 2, so a superblock never overwrites the one before it. The valid
// slot with the highest sequence counts. A torn slot beside a valid one is what a power cut in the
// middle of a commit leaves; that is legal and loses nothing that was ever reported durable.
//
// Units: bytes, or units of 4 KiB where the name says so. Thread: the scheduler's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/block_state.h"
#include "io/block_device.h"
#include "metadata/host_ids.h"
#include "metadata/layout.h"

namespace clonedev {

struct Unit;

// Says what a subtree holds: one state everywhere, or which unit says more.
struct PageRef {
  std::uint64_t where = 0;  // A PageKind other than mixed, or a unit >= kFirstPageUnit.
  std::uint64_t checksum = 0;

  static constexpr PageRef uniform(PageKind kind) { return {static_cast<std::uint64_t>(kind), 0}; }
  constexpr bool is_uniform() const { return where < static_cast<std::uint64_t>(PageKind::mixed); }
  constexpr PageKind kind() const {
    return is_uniform() ? static_cast<PageKind>(where) : PageKind::mixed;
  }
  constexpr bool operator==(const PageRef&) const = default;
};

struct Superblock {
  static constexpr std::size_t kMaxName = 127;
  static constexpr std::size_t kMaxText = 255;

  std::uint64_t sequence = 0;
  Id uuid{};
  std::string name;  // 1..kMaxName bytes.
  std::uint64_t size_bytes = 0;
  std::uint64_t region_size = 4096;
  std::uint64_t units = 0;  // Reserved for the metadata; the device has at least these.
  std::uint32_t depth = 0;

  // Who has it attached, or had when it was not detached cleanly.
  Id attach_id{};
  Id boot_id{};
  Id machine_id{};
  bool clean = true;

  bool complete = false;     // Every block is `destination`, for ever.
  bool needs_check = false;  // Something failed; no commit until an admin has acted (I10).
  std::string reason;        // Why needs_check is set; longer ones are cut to kMaxText.

  std::uint64_t origin_size = 0;
  std::string origin_identity;  // Up to kMaxText bytes each.
  std::string destination_identity;

  std::array<PageRef, kRootRefs> roots{};

  // Of the blocks that growing adds: nobody has written there.
  BlockState state_of_new_blocks() const {
    return complete ? BlockState::destination : BlockState::zero;
  }
};

// What lies in a superblock slot: zeroes, something else, ours with a wrong checksum, ours.
enum class SlotContent { blank, foreign, torn, sealed };

struct Slots {
  bool blank = true;  // There are only zeroes in the first 128 KiB, or in all there is.
  std::array<SlotContent, kSuperblockSlots> content{};
  // The one that counts, or why none does: Errc::foreign, damaged or refused, as below.
  Result<Superblock> chosen = fail(Errc::foreign, "blank");
};
// Errc::metadata_io: could not be read.
Task<Result<Slots>> read_slots(BlockDevice& device);

// The superblock that counts, with a line in the log where only one slot is left.
// nullopt: blank, there are only zeroes in the first 128 KiB (or in all there is).
// Errc::foreign: something else lies there. Errc::damaged: ours, but not valid. Errc::refused:
// made by a newer version. Errc::metadata_io: could not be read.
Task<Result<std::optional<Superblock>>> read_superblock(BlockDevice& device);

// Writes it to the slot of its sequence and flushes.
Task<Result<>> write_superblock(BlockDevice& device, const Superblock& superblock);

// The first 128 KiB of a device, or all there is: what format() overwrites of what it held. To put
// it back when a creation fails later on; write_head() makes it durable.
using SuperblockHead = std::vector<Unit>;
Task<Result<SuperblockHead>> read_head(BlockDevice& device);
Task<Result<>> write_head(BlockDevice& device, SuperblockHead& head);

// Puts two slots there that are not valid, durably: what is begun now is neither the old metadata
// nor blank, which would be an invitation to make a new clone.
Task<Result<>> spoil_superblocks(BlockDevice& device, const Superblock& superblock);

// Makes a new clone's metadata, all `origin`: name, uuid, size_bytes, region_size and identities
// are the caller's, the rest is set here. Whatever the device held is gone. A crash leaves the old
// metadata, a blank device, or the new metadata, or what read_superblock() refuses as unfinished.
Task<Result<>> format(BlockDevice& device, Superblock superblock);

}  // namespace clonedev
