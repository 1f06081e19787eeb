// Half of the mutations of a metadata image are aimed: a patch on a field that means something,
// with a value that is wrong in a likely way. The other half is libFuzzer's own.
//
// The checksums need no care here: make_image() seals what the input says, and kSeals sees to it
// that most inputs say so.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <random>
#include <vector>

#include "metadata/disk_format.h"
#include "metadata_image.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace clonedev::fuzz {
namespace {

constexpr std::size_t kHeader = 5;  // Kind, seals, size of the device, number of patches.
constexpr std::uint8_t kAllSeals = kSealTree | kSealSlot0 | kSealSlot1;

struct Field {
  std::size_t offset;
  std::size_t bytes;
};

constexpr std::array<Field, 19> kFields{{{offsetof(DiskSuperblock, magic), 8},
                                         {offsetof(DiskSuperblock, version), 4},
                                         {offsetof(DiskSuperblock, incompat), 4},
                                         {offsetof(DiskSuperblock, flags), 4},
                                         {offsetof(DiskSuperblock, sequence), 8},
                                         {offsetof(DiskSuperblock, uuid), 8},
                                         {offsetof(DiskSuperblock, attach_id), 16},
                                         {offsetof(DiskSuperblock, boot_id), 16},
                                         {offsetof(DiskSuperblock, machine_id), 16},
                                         {offsetof(DiskSuperblock, size_bytes), 8},
                                         {offsetof(DiskSuperblock, region_size), 8},
                                         {offsetof(DiskSuperblock, units), 8},
                                         {offsetof(DiskSuperblock, depth), 4},
                                         {offsetof(DiskSuperblock, origin_size), 8},
                                         {offsetof(DiskSuperblock, name), 8},
                                         {offsetof(DiskSuperblock, name) + 120, 8},
                                         {offsetof(DiskSuperblock, origin_identity) + 248, 8},
                                         {offsetof(DiskSuperblock, reason) + 248, 8},
                                         {offsetof(DiskSuperblock, checksum), 8}}};

class Aim {
 public:
  explicit Aim(unsigned seed) : random_(seed) {}

  std::vector<std::uint8_t> patch() { return below(2) == 0 ? field_patch() : ref_patch(); }
  std::uint64_t below(std::uint64_t end) { return random_() % end; }

 private:
  std::uint64_t value() {
    switch (below(6)) {
      case 0:
        return below(4);
      case 1:
        return kFirstPageUnit + below(8);
      case 2:
        return std::uint64_t{1} << below(64);
      case 3:
        return ~std::uint64_t{0} - below(3);
      case 4:
        return (std::uint64_t{1} << below(64)) - 1;
      default:
        return random_();
    }
  }

  std::vector<std::uint8_t> write(unsigned where, std::uint8_t index, std::size_t offset,
                                  std::size_t bytes) {
    std::vector<std::uint8_t> patch{static_cast<std::uint8_t>(where | (bytes - 1) << 2)};
    if (where == 2) patch.push_back(index);
    patch.push_back(static_cast<std::uint8_t>(offset));
    patch.push_back(static_cast<std::uint8_t>(offset >> 8));
    const std::uint64_t content = value();
    for (std::size_t i = 0; i < bytes; ++i) {
      patch.push_back(static_cast<std::uint8_t>(content >> 8 * (i % 8)));
    }
    return patch;
  }

  std::vector<std::uint8_t> field_patch() {
    const Field& field = kFields[below(kFields.size())];
    return write(static_cast<unsigned>(below(2)), 0, field.offset, field.bytes);
  }
  // A root, a reference in a node, a word of a page, or a byte of the live map.
  std::vector<std::uint8_t> ref_patch() {
    const std::size_t ref = below(kNodeRefs) * sizeof(DiskRef);
    const auto index = static_cast<std::uint8_t>(below(16));
    switch (below(4)) {
      case 0:
        return write(static_cast<unsigned>(below(2)), 0, offsetof(DiskSuperblock, roots) + ref / 2,
                     8);
      case 1:
        return write(2, index, ref, 8);
      case 2:
        return write(2, index, below(kUnitBytes / 8) * 8, 8);
      default:
        return write(3, 0, below(3 * kUnitBytes), 1 + below(8));
    }
  }

  std::minstd_rand random_;
};

}  // namespace
}  // namespace clonedev::fuzz

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  using namespace clonedev::fuzz;
  Aim aim(seed);
  if (size < kHeader || aim.below(2) == 0) return LLVMFuzzerMutate(data, size, most);
  // The new patch goes in front of the others, which then may undo it.
  const std::vector<std::uint8_t> patch = aim.patch();
  if (size + patch.size() > most || data[4] == 0xff) return LLVMFuzzerMutate(data, size, most);
  std::memmove(data + kHeader + patch.size(), data + kHeader, size - kHeader);
  std::memcpy(data + kHeader, patch.data(), patch.size());
  ++data[4];
  if (aim.below(4) > 0) data[1] = kAllSeals;
  return size + patch.size();
}
