// One clone: a disk that is whole at once, backed by origin, destination and metadata.
//
// Ownership: the caller owns the device; the destructor closes it. Buffers and iovec arrays of a
// request stay the caller's and must live until its completion is called.
// Threads: every method may be called from any thread but the device's own reactor, where the
// completions run; nothing may be called during or after close() but status() after it. No method
// but open, close, status, reconfigure, message, verify and grow ever waits. Errors: values;
// nothing throws out of here.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "clonedev/error.h"
#include "clonedev/extent.h"
#include "clonedev/options.h"
#include "clonedev/status.h"
#include "clonedev/verification.h"

namespace clonedev {

// Where the project keeps its files; tests use scratch folders.
struct Site {
  std::string state_dir = "/var/lib/tcmu-clone";  // Default metadata files and known/.
  std::string run_dir = "/run/tcmu-clone";        // Live maps, on a tmpfs of their own.
  bool mount_live_tmpfs = true;  // Mount that tmpfs when it is missing; false: use the folder.
};

struct OpenRequest {
  std::string name;
  // A multiple of 512. A clone that is larger, since it has grown, keeps its size.
  std::uint64_t size_bytes = 0;
  Options options;
  Site site;
};

// Called exactly once, on the reactor thread, which serves nobody until it returns; must not call
// back into the device's waiting methods. Starting further requests from it is fine.
struct Completion {
  void (*done)(void* context, const Result<>& outcome) = nullptr;
  void* context = nullptr;
};

enum class Zeroing {
  keep,        // Reads as zeroes; space may stay allocated (WRITE SAME, WRITE ZEROES).
  deallocate,  // Reads as zeroes and gives space back where discard_passdown is on (UNMAP).
};

// A stretch of the disk that is provisioned, or reads as zeroes and takes no space.
struct ProvisionedRun {
  Extent extent;
  bool deallocated = false;
};

// Where the log lines of the library go; level as in syslog(3) (LOG_ERR ... LOG_DEBUG).
using LogSink = void (*)(int level, const char* line);
void set_log_sink(LogSink sink);

class CloneDevice {
 public:
  // Checks everything, creates what is new, attaches; waits for locks and for the origin's first
  // answer only when the clone is new. On failure nothing was changed.
  static Result<std::unique_ptr<CloneDevice>> open(OpenRequest request);

  virtual ~CloneDevice() = default;

  // Extents are multiples of 512 bytes inside the disk; the iovecs hold at least that much.
  virtual void read(Extent extent, std::span<const iovec> data, Completion completion) = 0;
  virtual void write(Extent extent, std::span<const iovec> data, bool fua,
                     Completion completion) = 0;
  virtual void zero(Extent extent, Zeroing how, bool fua, Completion completion) = 0;
  virtual void flush(Completion completion) = 0;
  // `data` holds extent.length bytes to compare, then as many to write. Atomic against every
  // other write. A difference is Errc::miscompare with the first differing byte. A device that
  // takes the place of this one after a kill lets one succeed again that had succeeded here and
  // was not answered(): its initiator repeats it.
  virtual void compare_and_write(Extent extent, std::span<const iovec> data, bool fua,
                                 Completion completion) = 0;
  // The initiator has the answer of the compare_and_write() with this completion context, which
  // names no other until then. Also during and after close().
  virtual void answered(void* context) = 0;

  // The runs that the extent, cut to blocks of 512 bytes, begins with: into `runs`, which is not
  // empty, as many as there is room for, and their number into `found`; both live until the
  // completion. By the map: what a complete clone has discarded counts as provisioned.
  virtual void provisioning(Extent extent, std::span<ProvisionedRun> runs, std::size_t& found,
                            Completion completion) = 0;

  virtual Status status() = 0;
  // Whatever changes data is refused at present: ro=on, or the clone was opened with needs_check.
  // Does not wait; may be called at any time.
  virtual bool write_protected() const = 0;
  // Applies live keys; refuses a change of any other, naming it.
  virtual Result<> reconfigure(const Options& options) = 0;
  // dm-clone's messages: enable_hydration, disable_hydration, hydration_threshold N,
  // hydration_batch_size N. Transient. And clear_needs_check: the admin has seen to the fault.
  virtual Result<> message(std::string_view words) = 0;
  // Compares what was copied, and not written since, with the origin, in the background: begins,
  // tells how far it is, or ends it. It ends by itself a minute after it was last asked about.
  virtual Result<Verification> verify(VerifyAction action) = 0;
  // Makes the disk larger, while it is in use: destination and metadata, then, durably, the size.
  // What is new reads as zeroes, however long the origin is, and may be used when this has
  // returned. On an error the size is the old one; after one of the metadata or of a flush
  // (Errc::metadata_io, needs_check) the next open tells. Errc::refused: it would shrink, a block
  // device is too short. Errc::no_space, live_map_full, busy: the last block needs the origin.
  virtual Result<> grow(std::uint64_t size_bytes) = 0;
  // Stops hydration, waits for what is in flight, commits, detaches cleanly. Idempotent.
  virtual Result<> close() = 0;
};

}  // namespace clonedev
