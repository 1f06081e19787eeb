#include "metadata_image.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <vector>

#include "metadata/disk_format.h"
#include "metadata/metadata_store.h"
#include "property.h"
#include "scratch.h"
#include "support/sim_scheduler.h"

namespace clonedev::fuzz {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr std::uint64_t kPerPage = StatePages::kBlocksPerPage;

Id id_of(std::uint8_t value) {
  Id id{};
  id.fill(value);
  return id;
}

struct Kind {
  std::uint64_t size_bytes;
  bool killed;    // The daemon died while it was attached.
  bool complete;  // Every block is `destination`.
};

// Every depth of the tree, one page and a last page that is not whole.
constexpr std::array<Kind, kImageKinds> kKinds{{{(64 << 20) - 512, false, false},
                                                {5 * kGiB - 512, false, false},
                                                {100 * kGiB, false, false},
                                                {3000 * kGiB, false, false},
                                                {5 * kGiB - 512, true, false},
                                                {1 * kGiB, false, true}}};

struct Base {
  MetadataImage image;
  std::vector<std::uint64_t> units;  // In use, but for the slots.
};

void must(const Result<>& done) {
  promise(done.has_value(), "a sound image can be made", done ? "" : done.error().message());
}

void set(MetadataStore& store, std::uint64_t first, std::uint64_t count, BlockState state,
         Cause cause) {
  promise(store.set({first, count}, state, cause), "a sound image can be made");
}

// Mixed pages, uniform ones and both kinds of nodes, and, by a second commit, units that are free
// again.
void draw(SimScheduler& sim, MetadataStore& store, BlockDevice& destination) {
  const std::uint64_t blocks = store.map().geometry().blocks();
  set(store, 3, 5, BlockState::destination, Cause::written);
  set(store, blocks / 2, 77, BlockState::zero, Cause::written);
  must(sim.run(store.commit(destination)));
  set(store, 0, 2, BlockState::zero, Cause::written);
  set(store, blocks - 1, 1, BlockState::destination, Cause::copied);
  if (blocks > 40 * kPerPage) {
    set(store, 5 * kPerPage, 2 * kPerPage, BlockState::destination, Cause::copied);
    set(store, 20 * kPerPage + 7, 9, BlockState::zero, Cause::written);
  }
  must(sim.run(store.commit(destination)));
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Base make_base(const Kind& kind) {
  SimScheduler sim;
  ScratchFolder live;
  MemoryDevice destination(1 << 20);
  Base base;
  MemoryDevice& device = base.image.device;
  device = MemoryDevice(units_for(kind.size_bytes) * kUnitBytes);
  Superblock fresh;
  fresh.name = "vm1";
  fresh.uuid = id_of(7);
  fresh.size_bytes = fresh.origin_size = kind.size_bytes;
  fresh.origin_identity = "origin";
  fresh.destination_identity = "destination";
  must(sim.run(format(device, std::move(fresh))));
  auto superblock = sim.run(read_superblock(device));
  auto store =
      sim.run(MetadataStore::attach(device, std::move(**superblock), live.path(), this_boot()));
  promise(store.has_value(), "a sound image can be made");
  if (kind.complete) {
    set(**store, 0, (*store)->map().geometry().blocks(), BlockState::destination, Cause::copied);
    must(sim.run((*store)->commit(destination)));
    must(sim.run((*store)->set_complete()));
  } else {
    draw(sim, **store, destination);
  }
  if (kind.killed) {
    set(**store, 9, 1, BlockState::zero, Cause::written);  // Only the live map knows.
    base.image.live_map = read_file(LiveMap::path_of(live.path(), id_of(7)));
  } else {
    must(sim.run((*store)->detach()));
  }
  // Units are taken one after the other.
  const std::uint64_t last = std::min<std::uint64_t>(device.size() / kUnitBytes, 256);
  for (std::uint64_t unit = kFirstPageUnit; unit < last; ++unit) {
    Unit content;
    device.peek(unit * kUnitBytes, content.bytes);
    if (content.bytes != std::array<std::byte, kUnitBytes>{}) base.units.push_back(unit);
  }
  return base;
}

const Base& base_of(std::uint8_t kind) {
  static std::array<const Base*, kImageKinds> made{};
  if (made[kind] == nullptr) made[kind] = new Base(make_base(kKinds[kind]));
  return *made[kind];
}

void patch(FuzzInput& input, const Base& base, MetadataImage& image) {
  const std::uint8_t where = input.byte();
  const std::size_t length = 1 + (where >> 2);
  std::uint64_t unit = where % 4;
  if (unit == 2) {
    const std::size_t index = input.byte();
    unit = base.units.empty() ? kFirstPageUnit + index : base.units[index % base.units.size()];
  }
  const std::size_t offset = input.number(2);
  const auto bytes = input.bytes(length);
  if (where % 4 == 3) {
    for (std::size_t i = 0; i < bytes.size() && offset + i < image.live_map.size(); ++i) {
      image.live_map[offset + i] = static_cast<char>(bytes[i]);
    }
    return;
  }
  const std::size_t at = offset % kUnitBytes;
  const std::uint64_t end = std::min<std::uint64_t>((unit + 1) * kUnitBytes, image.device.size());
  const std::uint64_t from = unit * kUnitBytes + at;
  if (from >= end) return;
  image.device.poke(from, std::as_bytes(bytes.first(std::min(bytes.size(), end - from))));
}

// Seals one image, each unit once, so that references in a circle end.
class Sealer {
 public:
  explicit Sealer(MemoryDevice& device) : device_(device) {}

  void seal_slot(std::uint64_t slot, std::uint8_t seals) {
    if (device_.size() < (slot + 1) * kUnitBytes) return;
    auto disk = load<DiskSuperblock>(slot);
    if ((seals & kSealTree) != 0) {
      const std::uint32_t depth = std::min(disk.depth.value(), kMaxDepth);
      for (DiskRef& ref : disk.roots) seal_ref(ref, depth);
    }
    if ((seals & (slot == 0 ? kSealSlot0 : kSealSlot1)) != 0) {
      store(slot, disk);
      const Unit unit = load<Unit>(slot);
      disk.checksum =
          Le64(checksum_of(std::span(unit.bytes).first(offsetof(DiskSuperblock, checksum)), slot));
    }
    store(slot, disk);
  }

 private:
  void seal_ref(DiskRef& ref, std::uint32_t levels_below) {
    const std::uint64_t unit = ref.where.value();
    const PageRef core{unit, 0};
    if (core.is_uniform() || unit >= device_.size() / kUnitBytes) return;
    if (const auto done = sealed_.find(unit); done != sealed_.end()) {
      ref.checksum = Le64(done->second);
      return;
    }
    sealed_[unit] = 0;
    if (levels_below > 0) {
      auto node = load<DiskNode>(unit);
      for (DiskRef& child : node.refs) seal_ref(child, levels_below - 1);
      store(unit, node);
    }
    sealed_[unit] = checksum_of(load<Unit>(unit).bytes, unit);
    ref.checksum = Le64(sealed_[unit]);
  }

  template <class T>
  T load(std::uint64_t unit) const {
    T content;
    device_.peek(unit * kUnitBytes, std::as_writable_bytes(std::span(&content, 1)));
    return content;
  }
  template <class T>
  void store(std::uint64_t unit, const T& content) {
    device_.poke(unit * kUnitBytes, std::as_bytes(std::span(&content, 1)));
  }

  MemoryDevice& device_;
  std::map<std::uint64_t, std::uint64_t> sealed_;
};

// The same content on a device of another size.
MemoryDevice resized(const Base& base, std::uint64_t size) {
  MemoryDevice device(size);
  std::vector<std::uint64_t> units = base.units;
  units.insert(units.end(), {0, 1});
  for (const std::uint64_t unit : units) {
    if ((unit + 1) * kUnitBytes > size) continue;
    device.poke(unit * kUnitBytes, base.image.device.bytes({unit * kUnitBytes, kUnitBytes}));
  }
  return device;
}

}  // namespace

HostIds this_boot() { return {id_of(0xb0), id_of(0x3a)}; }
HostIds later_boot() { return {id_of(0xb1), id_of(0x3a)}; }

MetadataImage make_image(FuzzInput& input) {
  const Base& base = base_of(input.byte() % kImageKinds);
  MetadataImage image = base.image;
  const std::uint8_t seals = input.byte();
  const std::uint64_t sectors = input.number(2);
  if (sectors > 0) image.device = resized(base, sectors * 512);
  const std::uint8_t patches = input.byte();
  for (std::uint8_t i = 0; i < patches && !input.empty(); ++i) patch(input, base, image);
  Sealer sealer(image.device);
  for (const std::uint64_t slot : {0U, 1U}) sealer.seal_slot(slot, seals);
  return image;
}

}  // namespace clonedev::fuzz
