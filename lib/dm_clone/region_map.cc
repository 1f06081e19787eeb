#include "dm_clone/region_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

#include "dm_clone/dm_clone_format.h"
#include "metadata/unit_io.h"

namespace clonedev::dm_clone {
namespace {

static_assert(kBlockBytes == kUnitBytes);

constexpr unsigned kDeepest = 8;  // 252^4 array blocks would be more than a tree may hold.

tl::unexpected<Error> damaged(std::uint64_t block, const std::string& what) {
  return fail(
      Errc::damaged,
      fmt::format("dm-clone metadata: block {} {}: they are damaged, or still in use by the "
                  "kernel: suspend and remove the dm-clone device first",
                  block, what));
}

class Reader {
 public:
  explicit Reader(BlockDevice& device) : device_(device) {}

  Result<RegionMap> take_map() { return RegionMap{geometry_, std::move(words_)}; }

  Task<Result<>> read() {
    auto root = co_await read_superblock();
    if (!root) co_return fail(root.error());
    words_.reserve(wanted_words());
    if (auto walked = co_await read_node(*root, 0); !walked) co_return fail(walked.error());
    if (words_.size() != wanted_words()) {
      co_return damaged(*root, fmt::format("leads to {} words of 64 regions, there must be {}",
                                           words_.size(), wanted_words()));
    }
    co_return Result<>{};
  }

 private:
  std::uint64_t wanted_words() const { return Geometry::divide_up(geometry_.regions(), 64); }

  Task<Result<std::uint64_t>> read_superblock() {
    auto block = co_await read_block(0);
    if (!block) co_return fail(block.error());
    const Unit& unit = **block;
    const auto disk = read_at<DiskSuperblock>(unit.bytes, 0);
    if (disk.magic.value() != kMagic) {
      co_return fail(Errc::foreign, "these are no metadata of dm-clone: is it the right device?");
    }
    if (auto sound = check_block(unit, 0, BlockKind::superblock, disk.block); !sound) {
      co_return fail(sound.error());
    }
    if (disk.version.value() != kVersion) {
      co_return fail(Errc::refused,
                     fmt::format("dm-clone metadata: version {} is not known, only {}",
                                 disk.version.value(), kVersion));
    }
    if (auto sound = take_sizes(disk); !sound) co_return fail(sound.error());
    co_return disk.bitset_root.value();
  }

  Result<> take_sizes(const DiskSuperblock& disk) {
    const std::uint64_t region = disk.region_sectors.value();
    const std::uint64_t target = disk.target_sectors.value();
    if (!std::has_single_bit(region) || region < kBlockSize / kSectorBytes ||
        region > (std::uint64_t{1} << 30) / kSectorBytes) {
      return damaged(0, fmt::format("says that a region has {} sectors", region));
    }
    if (target == 0 || target > kMaxDiskBytes / kSectorBytes) {
      return damaged(0, fmt::format("says that the device has {} sectors", target));
    }
    geometry_ = Geometry(target * kSectorBytes, region * kSectorBytes);
    return {};
  }

  Task<Result<std::unique_ptr<Unit>>> read_block(std::uint64_t block) {
    if (block >= device_.size() / kBlockBytes) {
      co_return damaged(block, "lies past the end of the device");
    }
    if (!seen_.insert(block).second) co_return damaged(block, "is referred to twice");
    auto unit = std::make_unique<Unit>();
    const UnitTransfer transfer{block, unit.get()};
    const std::span<const UnitTransfer> transfers(&transfer, 1);
    if (auto read = co_await read_units(device_, transfers); !read) co_return fail(read.error());
    co_return unit;
  }

  static Result<> check_block(const Unit& unit, std::uint64_t block, BlockKind kind, Le64 place) {
    if (read_at<Le32>(unit.bytes, 0).value() != checksum_of(kind, unit.bytes)) {
      return damaged(block, "has a wrong checksum");
    }
    if (place.value() != block) {
      return damaged(block, fmt::format("says that it is block {}", place.value()));
    }
    return {};
  }

  static Result<> check_node(const Unit& unit, std::uint64_t block) {
    const auto head = read_at<DiskNodeHeader>(unit.bytes, 0);
    if (auto sound = check_block(unit, block, BlockKind::node, head.block); !sound) return sound;
    const std::uint32_t kind = head.flags.value();
    if (kind != kInternalNode && kind != kLeafNode) return damaged(block, "is no node of a tree");
    const std::uint64_t most = head.most_entries.value();
    if (head.value_bytes.value() != sizeof(Le64) || head.entries.value() > most ||
        sizeof(DiskNodeHeader) + most * 2 * sizeof(Le64) > kBlockBytes) {
      return damaged(block, "has impossible counts");
    }
    return {};
  }

  // A node and all below it; its array blocks are the next ones.
  Task<Result<>> read_node(std::uint64_t block, unsigned depth) {
    auto read = co_await read_block(block);
    if (!read) co_return fail(read.error());
    const Unit& unit = **read;
    if (auto sound = check_node(unit, block); !sound) co_return sound;
    const auto head = read_at<DiskNodeHeader>(unit.bytes, 0);
    const bool leaf = head.flags.value() == kLeafNode;
    if (!leaf && depth == kDeepest) co_return damaged(block, "lies too deep in its tree");
    const std::size_t values = sizeof(DiskNodeHeader) + head.most_entries.value() * sizeof(Le64);
    for (std::uint32_t i = 0; i < head.entries.value(); ++i) {
      const std::uint64_t key = word_at(unit.bytes, sizeof(DiskNodeHeader) + i * sizeof(Le64));
      const std::uint64_t child = word_at(unit.bytes, values + i * sizeof(Le64));
      if (key != next_array_) {
        co_return damaged(
            block, fmt::format("leads to array block {} where {} comes next", key, next_array_));
      }
      auto below = leaf ? read_array(child) : read_node(child, depth + 1);
      if (auto done = co_await std::move(below); !done) co_return done;
    }
    co_return Result<>{};
  }

  Task<Result<>> read_array(std::uint64_t block) {
    auto read = co_await read_block(block);
    if (!read) co_return fail(read.error());
    const Unit& unit = **read;
    const auto head = read_at<DiskArrayHeader>(unit.bytes, 0);
    if (auto sound = check_block(unit, block, BlockKind::array, head.block); !sound) {
      co_return sound;
    }
    const std::uint64_t left =
        wanted_words() - std::min<std::uint64_t>(words_.size(), wanted_words());
    const std::uint64_t wanted = std::min<std::uint64_t>(left, kArrayWords);
    if (head.value_bytes.value() != sizeof(Le64) || head.most_entries.value() != kArrayWords ||
        head.entries.value() != wanted || wanted == 0) {
      co_return damaged(
          block, fmt::format("has {} words, there must be {}", head.entries.value(), wanted));
    }
    for (std::uint64_t i = 0; i < wanted; ++i) {
      words_.push_back(word_at(unit.bytes, sizeof(DiskArrayHeader) + i * sizeof(Le64)));
    }
    ++next_array_;
    co_return Result<>{};
  }

  BlockDevice& device_;
  Geometry geometry_{0, kBlockSize};
  std::vector<std::uint64_t> words_;
  std::uint64_t next_array_ = 0;
  std::set<std::uint64_t> seen_;
};

}  // namespace

BlockRange RegionMap::run(std::uint64_t first_region) const {
  const bool state = hydrated(first_region);
  const std::uint64_t regions = geometry.regions();
  std::uint64_t end = first_region + 1;
  while (end < regions && hydrated(end) == state) ++end;
  const std::uint64_t first = first_region * geometry.blocks_per_region();
  return {first, std::min(end * geometry.blocks_per_region(), geometry.blocks()) - first};
}

std::uint64_t RegionMap::hydrated_regions() const {
  std::uint64_t count = 0;
  for (std::uint64_t region = 0; region < geometry.regions(); ++region) count += hydrated(region);
  return count;
}

Task<Result<RegionMap>> read_region_map(BlockDevice& device) {
  Reader reader(device);
  if (auto read = co_await reader.read(); !read) co_return fail(read.error());
  co_return reader.take_map();
}

}  // namespace clonedev::dm_clone
