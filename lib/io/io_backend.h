// Who does a reactor's I/O: an io_uring, or where that is forbidden (kernel.io_uring_disabled, the
// seccomp filters of containers, old kernels) a pool of threads with the same calls.
//
// Thread: wake() any; everything else the reactor's. A request and the memory it names stay the
// caller's, untouched, until wait() has scheduled its waiter; nothing is in flight when a backend
// is destroyed. No order among requests is promised, by either backend.
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <cstdint>
#include <memory>

#include "clonedev/error.h"
#include "io/scheduler.h"

namespace clonedev {

// One system call on a file, or the wait for a descriptor, and who waits for it.
struct IoRequest {
  enum class Kind : std::uint8_t { read, write, datasync, fallocate, poll };

  Kind kind = Kind::read;
  int fd = -1;
  int mode = 0;                 // Of fallocate; the events of a poll.
  unsigned count = 0;           // Of iovecs.
  const iovec* data = nullptr;  // Of read and write.
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // Of fallocate.

  std::coroutine_handle<> waiter = nullptr;
  int result = 0;             // >= 0 or -errno, as in io_uring_enter(2).
  IoRequest* next = nullptr;  // The backend's, while it has the request.
};

class IoBackend {
 public:
  virtual ~IoBackend() = default;

  // What the status says: "io_uring" or "threads".
  virtual const char* name() const = 0;
  // Begins at the next wait() at the latest.
  virtual void submit(IoRequest& request) = 0;
  // Ends a poll early, with -ECANCELED; nothing when it has ended already.
  virtual void cancel(IoRequest& poll) = 0;
  // Waits until a request has ended, somebody wakes, or `patience` is over (0: only looks, max():
  // has no end), and schedules the waiters of all that have ended.
  virtual void wait(Scheduler::Duration patience, Scheduler& scheduler) = 0;
  // Ends the wait under way, or the next one.
  virtual void wake() = 0;
};

// Errc::unavailable with the reason.
Result<std::unique_ptr<IoBackend>> make_ring_backend();
Result<std::unique_ptr<IoBackend>> make_thread_backend();

// The ring where there can be one, else threads and a line in the log. TCMU_CLONE_IO in the
// environment, "io_uring" or "threads", leaves no choice.
Result<std::unique_ptr<IoBackend>> make_io_backend();

}  // namespace clonedev
