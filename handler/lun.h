// One LUN of the runner: the clone behind it and the commands under way.
//
// The I/O methods are what the runner's callouts come down to. They never wait, complete nothing on
// the caller's stack, and return a TCMU_STS_: TCMU_STS_OK means that tcmur_cmd_complete will be
// called exactly once, on a completer thread or, for a command without company, on the device's
// own; anything else that the command was not taken.
// Thread: any.
//
// status, reconfigure, grow, message and verify may wait for the device. Thread: any.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>

#include "clonedev/clone_device.h"
#include "completer.h"
#include "device_commands.h"
#include "request.h"
#include "runner_log.h"
#include "tcmu_abi.h"

namespace clonedev {

class Lun {
 public:
  // `options` are those `clone` was opened with. Throws std::system_error when threads are short.
  Lun(tcmu_device* device, std::string name, Options options, std::unique_ptr<CloneDevice> clone);
  ~Lun();
  Lun(const Lun&) = delete;
  Lun& operator=(const Lun&) = delete;

  const std::string& name() const { return name_; }

  int read(tcmur_cmd* cmd, std::span<const iovec> data, Extent extent);
  int write(tcmur_cmd* cmd, std::span<const iovec> data, Extent extent);
  int flush(tcmur_cmd* cmd);
  // `data` holds extent.length bytes to compare, then as many to write.
  int compare_and_write(tcmur_cmd* cmd, std::span<const iovec> data, Extent extent);
  // Whatever takes more than one request to the device, or none.
  int run(tcmur_cmd* cmd, DeviceCommand command);

  Status status();
  Result<> message(std::string_view words);
  Result<Verification> verify(VerifyAction action);
  // CloneDevice::grow().
  Result<> grow(std::uint64_t size_bytes);
  // Applies live keys; refuses a change of any other.
  Result<> reconfigure(const Options& options);
  bool write_cache() const { return write_cache_; }
  // Does not wait.
  bool write_protected() const { return clone_->write_protected(); }

  // Waits until nothing is in flight and the clone is detached; status() answers meanwhile. The
  // runner has drained the LUN's commands before, but a completer or the device's thread may still
  // be on its way out of tcmur_cmd_complete: when this returns no thread is inside the runner on
  // behalf of this LUN. Idempotent.
  Result<> close();

 private:
  static void on_done(void* context, const Result<>& outcome);  // Reactor thread.
  static void on_turn(Completer::Item* item);                   // Completer thread.

  Request* begin(tcmur_cmd* cmd, Operation operation);
  // True: another request to the device is under way.
  bool advance(Request& request);
  bool has_no_company(const Request& request) const;
  int status_of(const Request& request);
  void complete(Request* request);
  void log_failure(const Request& request, const Error& error);
  int finish_empty(Request* request);

  // Constant after construction.
  tcmu_device* const device_;
  const std::string name_;
  const bool write_cache_;
  const std::unique_ptr<CloneDevice> clone_;  // Any thread.

  // With their own synchronization.
  std::atomic<std::chrono::milliseconds> last_step_;  // No step of a command begins later.
  std::atomic<unsigned> under_way_ = 0;
  RequestPool pool_;
  LogLimiter limiter_;
  Completer completer_;

  // Shared: talking to the device outside the I/O path; exclusive: the beginning of close.
  std::shared_mutex attached_mutex_;
  bool attached_ = true;  // Guarded by attached_mutex_.
};

}  // namespace clonedev
