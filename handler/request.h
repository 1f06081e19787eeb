// A command on its way through the device, from the callout to tcmur_cmd_complete.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "clonedev/extent.h"
#include "completer.h"
#include "scsi_status.h"
#include "tcmu_abi.h"

namespace clonedev {

class Lun;

// One block repeated: what a WRITE SAME of anything but zeroes writes, a bounded step at a time.
class Pattern {
 public:
  static constexpr std::size_t kBufferBytes = 256 * 1024;
  static constexpr std::size_t kRepeats = 4;  // A step is at most 1 MiB.

  // Nothing when memory is short. `total` bounds the buffer.
  static std::unique_ptr<Pattern> repeat(std::span<const std::byte> block, std::uint64_t total);

  std::uint64_t step_bytes() const { return step_bytes_; }
  // Covers step_bytes().
  std::span<const iovec> iovecs() const { return iovecs_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  Pattern() = default;

  std::unique_ptr<std::byte, Free> buffer_;
  std::array<iovec, kRepeats> iovecs_{};
  std::uint64_t step_bytes_ = 0;
};

struct Request : Completer::Item {
  Lun* lun = nullptr;
  tcmur_cmd* cmd = nullptr;
  Operation operation = Operation::read;
  int status = TCMU_STS_OK;
  Extent
      rest;  // What is still to do when this step has succeeded; only WRITE SAME has more than one.
  std::unique_ptr<Pattern> pattern;
  bool second_try = false;  // UNMAP: the discard failed and plain zeroing was started.
  bool begun = false;       // WRITE SAME: an earlier step has had its effect.
};

// Keeps some requests ready, since on a loopback LUN an allocation may have to wait for this very
// LUN to write pages back. Thread: any.
class RequestPool {
 public:
  explicit RequestPool(std::size_t ready);

  // Null when memory is short.
  std::unique_ptr<Request> take();
  void give_back(std::unique_ptr<Request> request);

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Request>> free_;  // Guarded by mutex_; never grows past its capacity.
};

}  // namespace clonedev
