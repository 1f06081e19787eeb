#include "metadata/superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/log.h"
#include "metadata/disk_format.h"
#include "metadata/unit_io.h"

namespace clonedev {
namespace {

// File systems and volume managers that keep clear of the first sectors still sign within this.
constexpr std::uint64_t kHeadUnits = 32;

using Head = SuperblockHead;

bool all_zero(const Unit& unit) {
  return std::all_of(unit.bytes.begin(), unit.bytes.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

Task<Result<>> read_range(BlockDevice& device, Head& head, std::size_t first, std::size_t end) {
  std::vector<UnitTransfer> transfers;
  for (std::size_t i = first; i < end; ++i) transfers.push_back({i, &head[i]});
  co_return co_await read_units(device, transfers);
}

// The slots; and more of the beginning where they are blank. (A bad sector there is no reason to
// give up metadata whose slots can be read.)
Task<Result<Head>> read_beginning(BlockDevice& device) {
  const std::uint64_t units = device.size() / kUnitBytes;
  Head head(std::min(units, kSuperblockSlots));
  if (auto read = co_await read_range(device, head, 0, head.size()); !read) {
    co_return fail(read.error());
  }
  if (!std::all_of(head.begin(), head.end(), all_zero)) co_return head;
  const std::size_t slots = head.size();
  head.resize(std::min(units, kHeadUnits));
  if (auto read = co_await read_range(device, head, slots, head.size()); !read) {
    co_return fail(read.error());
  }
  co_return head;
}

tl::unexpected<Error> foreign() {
  return fail(Errc::foreign,
              "metadata: holds something that is not tcmu-clone metadata: name another file or "
              "device, or create the clone with init=overwrite to lose what is there");
}

// Neither slot is sealed and at least one holds something.
tl::unexpected<Error> refuse(SlotContent first, SlotContent second) {
  if (first != SlotContent::torn && second != SlotContent::torn) return foreign();
  if (first == SlotContent::blank || second == SlotContent::blank) {
    return fail(
        Errc::damaged,
        "metadata: one superblock slot has a wrong checksum and the other is blank: its "
        "creation was interrupted, or it was damaged since: if this clone was never in "
        "use, create it again with init=overwrite, else restore it from a dump or a backup");
  }
  return fail(Errc::damaged,
              "metadata: no superblock slot is valid (wrong checksum): the metadata are damaged: "
              "restore them from a dump or a backup");
}

Result<Superblock> check_device(Superblock superblock, const BlockDevice& device) {
  if (superblock.units > device.size() / kUnitBytes) {
    return fail(Errc::damaged,
                fmt::format("metadata: cut short: the superblock says {} bytes, there are only "
                            "{}: restore them from a dump or a backup; or give the file that "
                            "length again (truncate --size) and see what clonectl repair says",
                            superblock.units * kUnitBytes, device.size()));
  }
  return superblock;
}

Result<Superblock> newer_of(const Superblock& a, const Superblock& b) {
  const Superblock& newer = a.sequence > b.sequence ? a : b;
  const Superblock& older = a.sequence > b.sequence ? b : a;
  // A disk may have been grown in between; it never shrinks.
  if (newer.uuid != older.uuid || newer.size_bytes < older.size_bytes ||
      newer.units < older.units) {
    return fail(Errc::damaged,
                "metadata: the two superblock slots belong to different clones: restore the "
                "metadata from a dump or a backup");
  }
  return newer;
}

Result<Superblock> choose(const Head& head, const Slots& slots, const BlockDevice& device) {
  std::vector<Superblock> found;
  for (const std::uint64_t slot : {0u, 1u}) {
    if (slots.content[slot] != SlotContent::sealed) continue;
    auto superblock = unpack_superblock(head[slot], slot);
    if (!superblock) return fail(superblock.error());
    found.push_back(std::move(*superblock));
  }
  if (found.empty()) return refuse(slots.content[0], slots.content[1]);
  if (found.size() == 1) return check_device(std::move(found[0]), device);
  auto newer = newer_of(found[0], found[1]);
  return newer ? check_device(std::move(*newer), device) : newer;
}

}  // namespace

Task<Result<SuperblockHead>> read_head(BlockDevice& device) {
  Head head(std::min(device.size() / kUnitBytes, kHeadUnits));
  if (auto read = co_await read_range(device, head, 0, head.size()); !read) {
    co_return fail(read.error());
  }
  co_return head;
}

Task<Result<>> write_head(BlockDevice& device, SuperblockHead& head) {
  std::vector<UnitTransfer> transfers;
  for (std::size_t i = 0; i < head.size(); ++i) transfers.push_back({i, &head[i]});
  if (auto outcome = co_await write_units(device, transfers); !outcome) co_return outcome;
  co_return co_await flush_units(device);
}

Task<Result<Slots>> read_slots(BlockDevice& device) {
  const auto head = co_await read_beginning(device);
  if (!head) co_return fail(head.error());
  Slots slots;
  slots.blank = std::all_of(head->begin(), head->end(), all_zero);
  if (slots.blank) co_return slots;
  if (head->size() < kSuperblockSlots) {
    slots.chosen = foreign();
    co_return slots;
  }
  slots.content = {look_at_slot((*head)[0], 0), look_at_slot((*head)[1], 1)};
  slots.chosen = choose(*head, slots, device);
  co_return slots;
}

Task<Result<std::optional<Superblock>>> read_superblock(BlockDevice& device) {
  auto slots = co_await read_slots(device);
  if (!slots) co_return fail(slots.error());
  if (slots->blank) co_return std::nullopt;
  if (!slots->chosen) co_return fail(slots->chosen.error());
  const Superblock& chosen = *slots->chosen;
  const std::uint64_t used = chosen.sequence % kSuperblockSlots;
  if (const SlotContent other = slots->content[1 - used]; other != SlotContent::sealed) {
    log_line(LOG_WARNING,
             "metadata of {}: superblock slot {} is {}, as after a power cut while it was written; "
             "using slot {} (sequence {})",
             chosen.name, 1 - used, other == SlotContent::blank ? "blank" : "not valid", used,
             chosen.sequence);
  }
  co_return chosen;
}

Task<Result<>> write_superblock(BlockDevice& device, const Superblock& superblock) {
  const auto unit = std::make_unique<Unit>();
  pack(superblock, *unit);
  const UnitTransfer transfer{superblock.sequence % kSuperblockSlots, unit.get()};
  const std::span<const UnitTransfer> transfers(&transfer, 1);
  if (auto outcome = co_await write_units(device, transfers); !outcome) co_return outcome;
  co_return co_await flush_units(device);
}

Task<Result<>> spoil_superblocks(BlockDevice& device, const Superblock& superblock) {
  if (auto outcome = co_await flush_units(device); !outcome) co_return outcome;
  Head head(std::min(device.size() / kUnitBytes, kHeadUnits));
  for (std::uint64_t slot = 0; slot < kSuperblockSlots; ++slot) {
    pack(superblock, head[slot]);
    head[slot].bytes.back() ^= std::byte{1};
  }
  co_return co_await write_head(device, head);
}

Task<Result<>> format(BlockDevice& device, Superblock superblock) {
  superblock.units = units_for(superblock.size_bytes);
  superblock.depth = depth_for(pages_for(superblock.size_bytes));
  superblock.clean = true;
  superblock.complete = false;
  superblock.needs_check = false;
  superblock.reason.clear();
  superblock.attach_id = superblock.boot_id = superblock.machine_id = Id{};
  superblock.roots = {};
  superblock.sequence = 1;
  if (auto fits = check_device(superblock, device); !fits) {
    co_return fail(Errc::no_space, fmt::format("metadata: {} bytes are needed, there are only {}",
                                               superblock.units * kUnitBytes, device.size()));
  }
  if (auto outcome = co_await flush_units(device); !outcome) co_return outcome;
  // No old slot may be left that a crash could bring back beside a new one.
  Head blank(std::min(device.size() / kUnitBytes, kHeadUnits));
  if (auto outcome = co_await write_head(device, blank); !outcome) co_return outcome;
  if (auto outcome = co_await write_superblock(device, superblock); !outcome) co_return outcome;
  superblock.sequence = 2;
  co_return co_await write_superblock(device, superblock);
}

}  // namespace clonedev
