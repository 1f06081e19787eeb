// A block device in memory. Sparse: only what was written with something else than zeroes costs
// memory. Every operation ends at once; put a SlowDevice on top for time. Copies share memory
// until one of them changes, so a copy is a cheap picture of the disk.
//
// Errors: a request that is not aligned to sector_size() or leaves the device.
// Thread: none of its own and no scheduler needed.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "io/block_device.h"

namespace clonedev {

class MemoryDevice final : public BlockDevice {
 public:
  explicit MemoryDevice(std::uint64_t size, std::uint32_t sector_size = 512)
      : size_(size), sector_size_(sector_size) {}

  std::uint64_t size() const override { return size_; }
  std::uint32_t sector_size() const override { return sector_size_; }
  Task<Result<>> read(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> write(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(Extent extent, bool deallocate) override;

  // Straight access for tests, any alignment, inside the device.
  void peek(std::uint64_t offset, std::span<std::byte> to) const;
  void poke(std::uint64_t offset, std::span<const std::byte> from);
  std::vector<std::byte> bytes(Extent extent) const;
  // The same for equal contents; of others it differs, as good as always.
  std::uint64_t fingerprint() const;
  // Memory held for data.
  std::uint64_t allocated() const { return pages_.size() * kPage; }

 private:
  static constexpr std::size_t kPage = 4096;
  using Page = std::array<std::byte, kPage>;

  Result<> check(std::uint64_t offset, std::uint64_t length) const;
  Page& writable(std::uint64_t page);

  std::uint64_t size_;
  std::uint32_t sector_size_;
  std::map<std::uint64_t, std::shared_ptr<Page>> pages_;
};

}  // namespace clonedev
