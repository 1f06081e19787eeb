// A whole clone without files or threads: engine, metadata, live map, link and hydrator for real,
// on devices in memory under a seeded scheduler with virtual time.
//
//   destination:  Faulty -> Slow -> Volatile -> memory     metadata: the same
//   origin:       a World (memory_origin.h) that the test may slow, break or hang
//
// power_cut() and kill() make the rig that finds what is left: after a power cut any subset of
// what was not flushed and no live map; after kill -9 all that was written, and the live map. The
// rig they are taken from lives on, so nothing has to be torn down in mid-flight.
#pragma once

#include <filesystem>
#include <memory>

#include "engine/engine.h"
#include "support/faulty_device.h"
#include "support/memory_origin.h"
#include "support/sim_scheduler.h"
#include "support/slow_device.h"
#include "support/volatile_device.h"

namespace clonedev {

using Bytes = std::vector<std::byte>;

struct RigConfig {
  std::uint64_t size = 1 << 20;
  std::uint64_t seed = 0;
  Options options;
  std::uint32_t sector_size = 512;
  std::uint64_t origin_size = 0;               // 0: as large as the disk.
  std::size_t memory = std::size_t{16} << 20;  // The buffer pool's.
  std::uint64_t room = 0;  // For so large a disk destination and metadata have; 0: as it is.
  std::string live_dir;    // Where the live map lies; empty: a folder of its own.

  RigConfig() { options.hydration = false; }  // Until set_hydration(true).
};

class CloneRig {
 public:
  explicit CloneRig(const RigConfig& config);
  ~CloneRig();

  // Requests, run to their end.
  Result<Bytes> read(Extent extent);
  Result<> write(std::uint64_t offset, const Bytes& data, bool fua = false);
  Result<> zero(Extent extent, Zeroing how = Zeroing::deallocate);
  Result<> flush();
  Result<> compare_and_write(std::uint64_t offset, const Bytes& expected, const Bytes& data);
  // A request that is only begun.
  Task<Result<>> begin_write(std::uint64_t offset, const Bytes& data);
  Task<Result<>> begin_read(Extent extent, Bytes& into);

  // What a new process finds after the machine lost power at this instant. `lose_units`: the
  // metadata device also loses whole 4 KiB around sectors under way. (The destination is given
  // what every file system asks of a disk: sectors are old or new.)
  std::unique_ptr<CloneRig> power_cut(std::uint64_t seed, bool lose_units = false) const;
  // The same with these contents.
  std::unique_ptr<CloneRig> power_cut(MemoryDevice destination, MemoryDevice metadata) const;
  // What a new process finds after this one was killed at this instant.
  std::unique_ptr<CloneRig> kill() const;
  // Attaches and starts. kill() and power_cut() have done it; the constructor too.
  Result<> open();
  Result<> close();
  bool is_open() const { return engine_ != nullptr; }

  void set_hydration(bool on);
  void hydrate_to_the_end();
  BlockState state(std::uint64_t block) const { return metadata_->map().at(block); }
  Bytes origin_bytes(Extent extent) const;

  SimScheduler sim;
  std::shared_ptr<MemoryOrigin::World> origin;
  std::unique_ptr<VolatileDevice> destination_disk;
  std::unique_ptr<VolatileDevice> metadata_disk;
  std::unique_ptr<SlowDevice> destination_slow;
  std::unique_ptr<SlowDevice> metadata_slow;
  std::unique_ptr<FaultyDevice> destination;
  std::unique_ptr<FaultyDevice> metadata_device;
  const std::filesystem::path& live_dir() const { return live_dir_; }
  Engine& engine() { return *engine_; }
  MetadataStore& metadata() { return *metadata_; }
  OriginLink* link() { return link_.get(); }
  const HostIds& host() const { return host_; }

 private:
  CloneRig(const CloneRig& from, MemoryDevice destination, MemoryDevice metadata);
  void stack_devices();
  Result<> attach();
  void make_live_dir();

  RigConfig config_;
  HostIds host_;
  std::filesystem::path live_dir_;
  bool own_live_dir_ = false;
  std::unique_ptr<BufferPool> pool_;
  std::unique_ptr<OriginLink> link_;
  std::unique_ptr<MetadataStore> metadata_;
  std::unique_ptr<Engine> engine_;
};

// `length` bytes that no other number gives.
Bytes pattern(std::uint64_t number, std::size_t length);

}  // namespace clonedev
