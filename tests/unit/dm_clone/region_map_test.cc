// Reading dm-clone's own metadata: images made here in the way of the kernel, and what must be
// refused. That the kernel itself writes them so is shown in the guest (take_over_dm_clone.sh).
#include "dm_clone/region_map.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "dm_clone/dm_clone_format.h"
#include "support/memory_device.h"
#include "support/sim_scheduler.h"
#include "support/sizes.h"

namespace clonedev::dm_clone {
namespace {

constexpr std::size_t kMostNodeEntries = 252;

// Bit by bit, to hold the library against.
std::uint32_t slow_checksum(std::span<const std::byte> bytes, std::uint32_t salt) {
  std::uint32_t crc = ~std::uint32_t{0};
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0u);
  }
  return crc ^ salt;
}

// Metadata as the kernel's dm-clone writes them, blocks in an order of their own.
class Image {
 public:
  Image(std::uint64_t sectors, std::uint64_t region_sectors, std::uint64_t seed)
      : device_(64 * kMiB), random_(seed) {
    const std::uint64_t regions = Geometry::divide_up(sectors, region_sectors);
    for (std::uint64_t i = 0; i < Geometry::divide_up(regions, 64); ++i)
      words_.push_back(random_());
    if (regions % 64) words_.back() &= (std::uint64_t{1} << regions % 64) - 1;
    std::vector<std::uint64_t> level = write_arrays();
    std::vector<std::uint64_t> keys(level.size());
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = i;
    std::uint32_t kind = kLeafNode;
    do {
      write_level(level, keys, kind);
      kind = kInternalNode;
    } while (level.size() > 1);
    DiskSuperblock super{};
    super.magic = Le64(kMagic);
    super.version = Le32(kVersion);
    super.region_sectors = Le64(region_sectors);
    super.target_sectors = Le64(sectors);
    super.bitset_root = Le64(level[0]);
    Unit unit{};
    std::memcpy(unit.bytes.data(), &super, sizeof super);
    root_ = level[0];
    put(0, unit, BlockKind::superblock);
  }

  MemoryDevice& device() { return device_; }
  const std::vector<std::uint64_t>& words() const { return words_; }
  std::uint64_t root() const { return root_; }
  std::uint64_t first_array() const { return first_array_; }
  // Changes a block and seals it again, as if the kernel had written it so.
  void change(std::uint64_t block, BlockKind kind, const std::function<void(Unit&)>& how) {
    Unit unit;
    device_.peek(block * kBlockBytes, unit.bytes);
    how(unit);
    seal(unit, kind);
    device_.poke(block * kBlockBytes, unit.bytes);
  }

 private:
  static void seal(Unit& unit, BlockKind kind) {
    const Le32 checksum(slow_checksum(std::span<const std::byte>(unit.bytes).subspan(4),
                                      static_cast<std::uint32_t>(kind)));
    std::memcpy(unit.bytes.data(), &checksum, sizeof checksum);
  }
  void put(std::uint64_t block, Unit& unit, BlockKind kind) {
    const Le64 place(block);
    const std::size_t where = kind == BlockKind::array ? offsetof(DiskArrayHeader, block)
                                                       : offsetof(DiskNodeHeader, block);
    std::memcpy(unit.bytes.data() + where, &place, sizeof place);
    seal(unit, kind);
    device_.poke(block * kBlockBytes, unit.bytes);
  }
  // Never the same, never in order.
  std::uint64_t fresh_block() {
    std::uint64_t block = 0;
    do {
      block = 1 + random_() % (device_.size() / kBlockBytes - 1);
    } while (!used_.insert(block).second);
    return block;
  }
  std::vector<std::uint64_t> write_arrays() {
    std::vector<std::uint64_t> places;
    for (std::size_t at = 0; at < words_.size(); at += kArrayWords) {
      const std::size_t count = std::min(kArrayWords, words_.size() - at);
      DiskArrayHeader head{};
      head.most_entries = Le32(kArrayWords);
      head.entries = Le32(static_cast<std::uint32_t>(count));
      head.value_bytes = Le32(sizeof(Le64));
      Unit unit{};
      std::memcpy(unit.bytes.data(), &head, sizeof head);
      for (std::size_t i = 0; i < count; ++i) {
        const Le64 word(words_[at + i]);
        std::memcpy(unit.bytes.data() + sizeof head + i * sizeof word, &word, sizeof word);
      }
      places.push_back(fresh_block());
      put(places.back(), unit, BlockKind::array);
    }
    first_array_ = places[0];
    return places;
  }
  // Replaces places and keys of one level by those of the nodes above it.
  void write_level(std::vector<std::uint64_t>& places, std::vector<std::uint64_t>& keys,
                   std::uint32_t kind) {
    std::vector<std::uint64_t> above;
    std::vector<std::uint64_t> above_keys;
    for (std::size_t at = 0; at < places.size(); at += kMostNodeEntries) {
      const std::size_t count = std::min(kMostNodeEntries, places.size() - at);
      DiskNodeHeader head{};
      head.flags = Le32(kind);
      head.entries = Le32(static_cast<std::uint32_t>(count));
      head.most_entries = Le32(kMostNodeEntries);
      head.value_bytes = Le32(sizeof(Le64));
      Unit unit{};
      std::memcpy(unit.bytes.data(), &head, sizeof head);
      for (std::size_t i = 0; i < count; ++i) {
        const Le64 key(keys[at + i]);
        const Le64 value(places[at + i]);
        std::byte* const first = unit.bytes.data() + sizeof head;
        std::memcpy(first + i * sizeof key, &key, sizeof key);
        std::memcpy(first + (kMostNodeEntries + i) * sizeof value, &value, sizeof value);
      }
      above.push_back(fresh_block());
      above_keys.push_back(keys[at]);
      put(above.back(), unit, BlockKind::node);
    }
    places = std::move(above);
    keys = std::move(above_keys);
  }

  MemoryDevice device_;
  std::mt19937_64 random_;
  std::set<std::uint64_t> used_;
  std::vector<std::uint64_t> words_;
  std::uint64_t root_ = 0;
  std::uint64_t first_array_ = 0;
};

Result<RegionMap> read(Image& image) {
  SimScheduler sim;
  return sim.run(read_region_map(image.device()));
}

void expect_refused(Image& image, Errc code, const std::string& word) {
  const auto map = read(image);
  ASSERT_FALSE(map) << word;
  EXPECT_EQ(map.error().code, make_error_code(code)) << map.error().message();
  EXPECT_NE(map.error().message().find(word), std::string::npos) << map.error().message();
}

void put32(Unit& unit, std::size_t offset, std::uint32_t value) {
  const Le32 disk(value);
  std::memcpy(unit.bytes.data() + offset, &disk, sizeof disk);
}

TEST(DmCloneChecksum, is_the_kernels_crc32c_xor_a_number_of_the_kind) {
  std::mt19937_64 random(1);
  Unit unit{};
  for (std::byte& byte : unit.bytes) byte = static_cast<std::byte>(random());
  const auto rest = std::span<const std::byte>(unit.bytes).subspan(4);
  for (const BlockKind kind : {BlockKind::superblock, BlockKind::node, BlockKind::array}) {
    EXPECT_EQ(checksum_of(kind, unit.bytes), slow_checksum(rest, static_cast<std::uint32_t>(kind)));
  }
}

// From a single region to a tree of two levels; with and without a short last region.
TEST(DmCloneRegionMap, has_every_bit_in_its_place) {
  const struct {
    std::uint64_t sectors, region_sectors;
  } sizes[] = {{8, 8},
               {4096, 8},
               {64 * 8 * 509, 8},
               {64 * 8 * 509 + 3, 8},
               {100'000'007, 64},
               {80'000'000, 8},
               {33'554'432, 2'097'152}};
  for (const auto& size : sizes) {
    Image image(size.sectors, size.region_sectors, size.sectors);
    const auto map = read(image);
    ASSERT_TRUE(map) << map.error().message();
    EXPECT_EQ(map->geometry.size_bytes(), size.sectors * 512);
    EXPECT_EQ(map->geometry.region_size(), size.region_sectors * 512);
    EXPECT_EQ(map->words, image.words());
  }
}

TEST(DmCloneRegionMap, runs_cover_the_disk_without_a_gap) {
  Image image(100'003, 64, 7);
  const auto map = read(image);
  ASSERT_TRUE(map);
  const std::uint64_t per_region = map->geometry.blocks_per_region();
  std::uint64_t hydrated = 0;
  std::uint64_t next = 0;
  for (std::uint64_t region = 0; region < map->geometry.regions();) {
    const BlockRange run = map->run(region);
    EXPECT_EQ(run.first, next);
    const std::uint64_t regions = Geometry::divide_up(run.count, per_region);
    hydrated += map->hydrated(region) ? regions : 0;
    next = run.end();
    region += regions;
  }
  EXPECT_EQ(next, map->geometry.blocks());
  EXPECT_EQ(hydrated, map->hydrated_regions());
}

TEST(DmCloneRegionMap, a_flipped_bit_in_any_block_is_damage) {
  for (const int which : {0, 1, 2}) {
    Image image(1'000'000, 8, 3);
    const std::uint64_t block = which == 0 ? 0 : which == 1 ? image.root() : image.first_array();
    for (const std::uint64_t offset : {4U, 13U, 24U, 100U, 4095U}) {
      const std::uint64_t at = block * kBlockBytes + offset;
      if (which == 0 && offset >= 32 && offset < 40) continue;
      std::array<std::byte, 1> byte{};
      image.device().peek(at, byte);
      byte[0] ^= std::byte{4};
      image.device().poke(at, byte);
      expect_refused(image, Errc::damaged, "wrong checksum");
      byte[0] ^= std::byte{4};
      image.device().poke(at, byte);
    }
    EXPECT_TRUE(read(image));
  }
}

TEST(DmCloneRegionMap, something_else_is_foreign) {
  Image image(4096, 8, 1);
  const std::vector<std::byte> zeroes(kBlockBytes);
  image.device().poke(0, zeroes);
  expect_refused(image, Errc::foreign, "no metadata of dm-clone");
}

TEST(DmCloneRegionMap, sealed_blocks_that_cannot_be_are_refused) {
  using Super = DiskSuperblock;
  const struct {
    const char* word;
    Errc code;
    int which;  // 0 superblock, 1 root node, 2 first array block
    std::function<void(Image&, Unit&)> how;
  } cases[] = {
      {"version 2", Errc::refused, 0,
       [](Image&, Unit& u) { put32(u, offsetof(Super, version), 2); }},
      {"region has 24 sectors", Errc::damaged, 0,
       [](Image&, Unit& u) { put32(u, offsetof(Super, region_sectors), 24); }},
      {"device has 0 sectors", Errc::damaged, 0,
       [](Image&, Unit& u) { put32(u, offsetof(Super, target_sectors), 0); }},
      {"words", Errc::damaged, 0,
       [](Image&, Unit& u) { put32(u, offsetof(Super, target_sectors), 4096); }},
      {"past the end", Errc::damaged, 0,
       [](Image&, Unit& u) { put32(u, offsetof(Super, bitset_root), 1u << 30); }},
      {"wrong checksum", Errc::damaged, 0,
       [](Image& image, Unit& u) {
         put32(u, offsetof(Super, bitset_root), static_cast<std::uint32_t>(image.first_array()));
       }},
      {"says that it is block", Errc::damaged, 1,
       [](Image&, Unit& u) { put32(u, offsetof(DiskNodeHeader, block), 12345678); }},
      {"no node", Errc::damaged, 1,
       [](Image&, Unit& u) { put32(u, offsetof(DiskNodeHeader, flags), 3); }},
      {"impossible counts", Errc::damaged, 1,
       [](Image&, Unit& u) { put32(u, offsetof(DiskNodeHeader, most_entries), 5000); }},
      {"impossible counts", Errc::damaged, 1,
       [](Image&, Unit& u) { put32(u, offsetof(DiskNodeHeader, entries), 253); }},
      {"comes next", Errc::damaged, 1, [](Image&, Unit& u) { put32(u, 32 + 8, 7); }},
      {"there must be", Errc::damaged, 1,
       [](Image&, Unit& u) { put32(u, offsetof(DiskNodeHeader, entries), 1); }},
      {"referred to twice", Errc::damaged, 1,
       [](Image&, Unit& u) {
         std::memcpy(u.bytes.data() + 32 + 253 * 8, u.bytes.data() + 32 + 252 * 8, 8);
       }},
      {"referred to twice", Errc::damaged, 1,
       [](Image& image, Unit& u) {
         put32(u, offsetof(DiskNodeHeader, flags), kInternalNode);
         put32(u, 32 + 252 * 8, static_cast<std::uint32_t>(image.root()));
       }},
      {"words, there must be", Errc::damaged, 2,
       [](Image&, Unit& u) { put32(u, offsetof(DiskArrayHeader, entries), 508); }},
  };
  for (const auto& one : cases) {
    Image image(1'000'000, 8, 5);
    const std::uint64_t block = one.which == 0   ? 0
                                : one.which == 1 ? image.root()
                                                 : image.first_array();
    const BlockKind kind = one.which == 0   ? BlockKind::superblock
                           : one.which == 1 ? BlockKind::node
                                            : BlockKind::array;
    image.change(block, kind, [&](Unit& unit) { one.how(image, unit); });
    expect_refused(image, one.code, one.word);
  }
}

}  // namespace
}  // namespace clonedev::dm_clone
