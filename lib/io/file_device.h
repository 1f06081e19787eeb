// A destination or metadata device that is a regular file or a block device, on the reactor's ring.
// Of a file that is memory (tmpfs) the reactor's thread itself transfers what is small.
//
// It is opened in one way, O_DIRECT where the file system can, else buffered, never both (I15).
// Iovecs that O_DIRECT cannot take are bounced through the pool; nobody who waits here may hold
// buffers that others need to let go of theirs (callers pass aligned pool buffers, which are not
// bounced).
#pragma once

#include <atomic>
#include <memory>

#include "io/block_device.h"
#include "io/buffer_pool.h"
#include "io/exclusive_file.h"
#include "io/reactor.h"

namespace clonedev {

class FileDevice final : public BlockDevice {
 public:
  // `size` bytes of the file are used; it is at least that long. Thread: any.
  FileDevice(Reactor& reactor, BufferPool& pool, ExclusiveFile file, std::uint64_t size);

  std::uint64_t size() const override { return size_; }
  std::uint32_t sector_size() const override { return sector_size_; }
  bool direct() const { return direct_; }
  const ExclusiveFile& file() const { return file_; }

  Task<Result<>> read(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> write(std::uint64_t offset, std::span<const iovec> data) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(Extent extent, bool deallocate) override;
  Task<Result<>> discard(Extent extent) override;
  // Makes the device at least that long. A block device can only be refused. Thread: any but the
  // reactor, for which this may wait.
  Result<> lengthen(std::uint64_t size);
  // The same, and its space is reserved: a later write meets no ENOSPC.
  Result<> grow(std::uint64_t size);
  // Takes back what these two added to a file that had `size` bytes before. The same threads.
  Result<> cut(std::uint64_t size);
  // Others that open the block device see what was written O_DIRECT.
  void drop_page_cache() const;

 private:
  enum class Direction { read, write };

  void choose_mode();
  bool direct_works(std::size_t alignment) const;
  // A result as the reactor's operations have it.
  int transfer_at_once(Direction direction, std::uint64_t offset,
                       std::span<const iovec> data) const;
  Task<Result<>> transfer(Direction direction, std::uint64_t offset, std::span<const iovec> data);
  Task<Result<>> bounce(Direction direction, std::uint64_t offset, std::span<const iovec> data);
  Task<Result<>> write_zeroes(Extent extent);
  // Whether it was done; false where this way is not supported, which is then remembered.
  Task<Result<bool>> try_fallocate(int mode, bool& supported, Extent extent);
  Error error(const char* what, int code, Errc otherwise) const;

  Reactor& reactor_;
  BufferPool& pool_;
  ExclusiveFile file_;
  std::atomic<std::uint64_t> size_;
  const bool in_memory_;
  // Writes and allocations that the reactor's backend has. They hold the inode's lock, and who
  // wrote beside them would wait for it.
  unsigned changing_ = 0;
  std::uint32_t sector_size_ = 512;
  bool direct_ = false;
  bool can_punch_ = true;
  bool can_zero_range_ = true;
};

}  // namespace clonedev
