// A formatted clone in memory, and a folder for its live map, for the tests of lib/metadata.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "clonedev/clone_device.h"
#include "metadata/metadata_store.h"
#include "support/memory_device.h"
#include "support/recording_device.h"
#include "support/sim_scheduler.h"
#include "support/sizes.h"
#include "support/volatile_device.h"

namespace clonedev {

inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kPerPage = StatePages::kBlocksPerPage;

// A folder on tmpfs that is gone at the end.
class ScratchDir {
 public:
  ScratchDir() {
    std::string name = "/dev/shm/clonedev-test-XXXXXX";
    if (!mkdtemp(name.data())) std::abort();
    path_ = name;
  }
  ~ScratchDir() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline Id id_of(std::uint8_t value) {
  Id id{};
  id.fill(value);
  return id;
}

inline const HostIds kHost{id_of(0xb0), id_of(0x3a)};
inline const HostIds kNextBoot{id_of(0xb1), id_of(0x3a)};
inline const HostIds kOtherMachine{id_of(0xb2), id_of(0x3b)};

inline Superblock new_superblock(std::uint64_t size_bytes) {
  Superblock superblock;
  superblock.name = "vm1";
  superblock.uuid = id_of(7);
  superblock.size_bytes = size_bytes;
  superblock.origin_size = size_bytes;
  superblock.origin_identity = "origin";
  superblock.destination_identity = "destination";
  return superblock;
}

inline std::uint64_t metadata_bytes(std::uint64_t size_bytes) {
  return units_for(size_bytes) * kUnitBytes;
}

// What a map says, to compare: the state of every block, run by run.
using Picture = std::map<std::uint64_t, BlockState>;

inline Picture picture_of(const StateMap& map) {
  Picture picture;
  const std::uint64_t blocks = map.geometry().blocks();
  for (std::uint64_t at = 0; at < blocks;) {
    const StateRun run = map.run({at, blocks - at});
    picture[at] = run.state;
    at = run.blocks.end();
  }
  return picture;
}

class CloneTest : public testing::Test {
 protected:
  CloneTest() {
    set_log_sink([](int, const char*) {});  // Thousands of torn slots would be reported.
  }
  using Store = std::unique_ptr<MetadataStore>;

  void format_device(BlockDevice& device, std::uint64_t size_bytes) {
    Superblock superblock = new_superblock(size_bytes);
    const auto done = sim.run(format(device, std::move(superblock)));
    ASSERT_TRUE(done) << done.error().message();
  }
  Result<Superblock> read_one(BlockDevice& device) {
    auto found = sim.run(read_superblock(device));
    if (!found) return fail(found.error());
    if (!*found) return fail(Errc::unavailable, "blank");
    return **found;
  }
  Result<Store> try_attach(BlockDevice& device, HostIds ids = kHost) {
    auto superblock = read_one(device);
    if (!superblock) return fail(superblock.error());
    std::string dir = live.path();
    return sim.run(MetadataStore::attach(device, std::move(*superblock), std::move(dir), ids));
  }
  Store attach(BlockDevice& device, HostIds ids = kHost) {
    auto store = try_attach(device, ids);
    EXPECT_TRUE(store) << store.error().message();
    return store ? std::move(*store) : nullptr;
  }
  // What somebody sees who opens this image after a power cut; empty with a failure noted.
  Picture picture_after_power_cut(MemoryDevice image) {
    ScratchDir other;
    auto superblock = read_one(image);
    EXPECT_TRUE(superblock) << superblock.error().message();
    if (!superblock) return {};
    std::string dir = other.path();
    auto store =
        sim.run(MetadataStore::attach(image, std::move(*superblock), std::move(dir), kNextBoot));
    EXPECT_TRUE(store) << store.error().message();
    return store ? picture_of((*store)->map()) : Picture{};
  }

  SimScheduler sim;
  ScratchDir live;
  MemoryDevice destination{kMiB};
};

inline bool set(MetadataStore& store, std::uint64_t first, std::uint64_t count,
                BlockState state = BlockState::destination, Cause cause = Cause::written) {
  return store.set({first, count}, state, cause);
}

}  // namespace clonedev
