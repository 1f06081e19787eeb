// What the engine needs of a destination or metadata device. Real ones are files and block
// devices (file_device.h); tests stack slow, faulty and volatile ones in memory.
//
// Units: bytes. Thread: the scheduler's. Ownership: buffers stay the caller's until the task ends.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "clonedev/error.h"
#include "clonedev/extent.h"
#include "clonedev/status.h"
#include "io/task.h"

namespace clonedev {

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  virtual std::uint64_t size() const = 0;
  // Offsets and lengths of every request must be multiples of this: 512 or 4096.
  virtual std::uint32_t sector_size() const = 0;

  // The sum of the iovecs' lengths is transferred, all of it or an error.
  virtual Task<Result<>> read(std::uint64_t offset, std::span<const iovec> data) = 0;
  virtual Task<Result<>> write(std::uint64_t offset, std::span<const iovec> data) = 0;
  // When it ends well, every write and zeroing that had ended before it began is durable.
  virtual Task<Result<>> flush() = 0;
  // Afterwards the range reads as zeroes; `deallocate` gives the space back where that can be.
  virtual Task<Result<>> zero(Extent extent, bool deallocate) = 0;
  // Gives the space of a range back that nobody will read before it is written again. Only ever
  // by a way that zeroes, and not at all where the device has none.
  virtual Task<Result<>> discard(Extent extent) { return zero(extent, true); }
};

}  // namespace clonedev
