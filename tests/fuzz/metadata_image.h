// Metadata images made of a fuzzer's bytes: a sound image, made by the program itself, then
// patched.
//
// Checksums would stop every patch at the door, so the image is sealed again afterwards, as far as
// the input wants it: the tree from its leaves up, each superblock slot by itself.
//
// The bytes: kind, seals, two for the size of the device (sectors; 0: as made), then the number of
// patches and for each:
//   where    low 2 bits: 0 slot 0, 1 slot 1, 2 a unit in use (its index follows), 3 the live map;
//            high 6 bits: how many bytes less one
//   offset   two bytes, from the start of the unit; of the live map, from its start
//   bytes
#pragma once

#include <string>

#include "fuzz_input.h"
#include "metadata/host_ids.h"
#include "support/memory_device.h"

namespace clonedev::fuzz {

enum Seal : std::uint8_t { kSealTree = 1, kSealSlot0 = 2, kSealSlot1 = 4 };

struct MetadataImage {
  MemoryDevice device{0};
  std::string live_map;  // Of the daemon that died; empty: it did not.
};

// Who attaches in all of this: the images that were left by a dead daemon are of this boot.
HostIds this_boot();
HostIds later_boot();

inline constexpr std::uint8_t kImageKinds = 6;
MetadataImage make_image(FuzzInput& input);

}  // namespace clonedev::fuzz
