// A device with a write cache that a power cut empties: what was written or zeroed is seen at
// once, and is durable only after a flush that began after the write had ended.
//
// image(seed) is what the platters may hold if the power went at this instant: for every
// unflushed sector of 512 bytes independently the durable content or any of its unflushed
// versions (any subset, any order, torn), in some images every one and in some none of them. The
// device itself goes on, so one run can be cut at every step without tearing down its coroutines.
//
// Thread: one scheduler, needed only when flushes are to take time.
#pragma once

#include <array>
#include <map>
#include <random>
#include <vector>

#include "io/scheduler.h"
#include "support/memory_device.h"

namespace clonedev {

class VolatileDevice final : public BlockDevice {
 public:
  static constexpr std::size_t kSector = 512;

  struct Crash {
    std::uint64_t seed = 0;
    // Some of the 4 KiB units with a sector under way hold garbage afterwards, all of the 4 KiB.
    bool lose_units = false;
  };

  explicit VolatileDevice(std::uint64_t size, std::uint32_t sector_size = 512)
      : durable_(size, sector_size) {}
  explicit VolatileDevice(MemoryDevice durable) : durable_(std::move(durable)) {}

  // A flush lasts that long, and makes durable what had ended when it began, at its end.
  void set_flush_time(Scheduler& scheduler, Scheduler::Duration duration);

  std::uint64_t size() const override { return durable_.size(); }
  std::uint32_t sector_size() const override { return durable_.sector_size(); }
  Task<Result<>> read(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> write(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(Extent extent, bool deallocate) override;

  MemoryDevice image(Crash crash) const;
  // What a reader sees: the durable content under everything written since.
  MemoryDevice present() const;
  // What is durable for sure.
  const MemoryDevice& durable() const { return durable_; }
  // The power cut happens to this device itself: it becomes image(crash).
  void crash(Crash crash);
  // A sector under way, and what it may hold after a power cut beside its durable content: the
  // contents that differ from that and from each other, the oldest first; often none.
  struct Unflushed {
    struct Content {
      std::uint64_t time;  // Counts the writes of the device.
      std::span<const std::byte> data;
    };
    std::uint64_t sector;
    std::vector<Content> contents;
  };
  std::vector<Unflushed> unflushed() const;
  // Grows whenever what a power cut or a reader may find has changed.
  std::uint64_t changes() const { return time_ + flushes_; }
  std::size_t unflushed_sectors() const { return pending_.size(); }

 private:
  struct Version {
    std::uint64_t time;
    std::array<std::byte, kSector> data;
  };

  static void choose(MemoryDevice& disk, std::uint64_t sector, const std::vector<Version>& versions,
                     double keep, std::mt19937_64& random);
  void lose_units(MemoryDevice& disk, std::mt19937_64& random) const;

  MemoryDevice durable_;
  std::map<std::uint64_t, std::vector<Version>> pending_;  // By sector; oldest version first.
  std::uint64_t time_ = 0;
  std::uint64_t flushes_ = 0;  // That have ended.
  Scheduler* scheduler_ = nullptr;
  Scheduler::Duration flush_time_{};
};

}  // namespace clonedev
