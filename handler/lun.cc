// A command's way: callout (command thread) -> CloneDevice -> on_done (reactor) -> completer ->
// on_turn: the next of the command's steps, or tcmur_cmd_complete. Further steps start on the
// completer, never in on_done or a callout: that is what keeps a chain of a million steps from
// becoming a million stack frames.
//
// A small command that is the only one under way is completed in on_done: nobody else waits for the
// reactor meanwhile, and waking a thread would take longer than what it has to do.
#include "lun.h"

#include <syslog.h>

#include <algorithm>
#include <mutex>

#include "scsi/cdb.h"

namespace clonedev {
namespace {

// The kernel's own queue depth for a TCMU device.
constexpr std::size_t kReadyRequests = 128;

// Its data are copied while it is completed.
constexpr std::uint64_t kSmall = 64 << 10;

// When the last step of a command may begin: it may wait for the origin for origin_timeout, and the
// kernel gives the command up after 30 s (cmd_time_out).
std::chrono::milliseconds last_step(const Options& options) {
  constexpr std::int64_t kPatience = 29'000;
  constexpr std::int64_t kLeast = 500;
  return std::chrono::milliseconds(
      std::max(kLeast, kPatience - std::int64_t{options.origin_timeout_ms}));
}

const char* verb(Operation operation) {
  switch (operation) {
    case Operation::read:
      return "read";
    case Operation::write:
      return "write";
    case Operation::flush:
      return "flush";
    case Operation::unmap:
      return "unmap";
    case Operation::write_same:
      return "write same";
    case Operation::compare_and_write:
      return "compare and write";
    case Operation::verify:
      return "verify";
    case Operation::write_verify:
      return "write and verify";
    case Operation::or_write:
      return "or-write";
    case Operation::copy:
      return "extended copy";
    case Operation::format:
      return "format unit";
    case Operation::lba_status:
      return "get LBA status";
  }
  return "command";
}

}  // namespace

Lun::Lun(tcmu_device* device, std::string name, Options options, std::unique_ptr<CloneDevice> clone)
    : device_(device),
      name_(std::move(name)),
      write_cache_(options.write_cache),
      clone_(std::move(clone)),
      last_step_(last_step(options)),
      pool_(kReadyRequests),
      completer_(&Lun::on_turn) {}

Lun::~Lun() { close(); }

Request* Lun::begin(tcmur_cmd* cmd, Operation operation) {
  std::unique_ptr<Request> request = pool_.take();
  if (!request) return nullptr;
  request->lun = this;
  request->cmd = cmd;
  request->operation = operation;
  ++under_way_;
  return request.release();  // complete() takes it back.
}

int Lun::finish_empty(Request* request) {
  completer_.push(request);
  return TCMU_STS_OK;
}

int Lun::read(tcmur_cmd* cmd, std::span<const iovec> data, Extent extent) {
  Request* const request = begin(cmd, Operation::read);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  if (extent.empty()) return finish_empty(request);
  request->length = extent.length;
  clone_->read(extent, data, Completion{&Lun::on_done, request});
  return TCMU_STS_OK;
}

int Lun::write(tcmur_cmd* cmd, std::span<const iovec> data, Extent extent) {
  Request* const request = begin(cmd, Operation::write);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  if (extent.empty()) return finish_empty(request);
  request->length = extent.length;
  const bool fua = scsi::wants_fua(cmd->lib_cmd->cdb);
  clone_->write(extent, data, fua, Completion{&Lun::on_done, request});
  return TCMU_STS_OK;
}

int Lun::flush(tcmur_cmd* cmd) {
  Request* const request = begin(cmd, Operation::flush);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  clone_->flush(Completion{&Lun::on_done, request});
  return TCMU_STS_OK;
}

int Lun::compare_and_write(tcmur_cmd* cmd, std::span<const iovec> data, Extent extent) {
  Request* const request = begin(cmd, Operation::compare_and_write);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  if (extent.empty()) return finish_empty(request);
  const bool fua = scsi::wants_fua(cmd->lib_cmd->cdb);
  clone_->compare_and_write(extent, data, fua, Completion{&Lun::on_done, request});
  return TCMU_STS_OK;
}

int Lun::run(tcmur_cmd* cmd, DeviceCommand command) {
  Request* const request = begin(cmd, command.operation);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  request->steps = std::move(command.steps);
  request->steps->begin_none_after(Steps::Clock::now() + last_step_.load());
  if (!advance(*request)) completer_.push(request);
  return TCMU_STS_OK;
}

// Thread: the reactor.
void Lun::on_done(void* context, const Result<>& outcome) {
  auto* const request = static_cast<Request*>(context);
  request->outcome = outcome;
  Lun& lun = *request->lun;
  if (lun.has_no_company(*request)) {
    lun.complete(request);
  } else {
    lun.completer_.push(request);
  }
}

bool Lun::has_no_company(const Request& request) const {
  return under_way_ == 1 && request.length > 0 && request.length <= kSmall && request.outcome;
}

void Lun::on_turn(Completer::Item* item) {
  auto* const request = static_cast<Request*>(item);
  Lun& lun = *request->lun;
  if (!lun.advance(*request)) lun.complete(request);
}

bool Lun::advance(Request& request) {
  if (!request.steps) return false;
  const Result<> last = std::move(request.outcome);
  auto ended = request.steps->advance(*clone_, last, Completion{&Lun::on_done, &request});
  if (!ended) return true;
  request.outcome = std::move(*ended);
  request.begun = request.steps->had_effect();
  request.steps.reset();
  return false;
}

int Lun::status_of(const Request& request) {
  if (request.outcome) return TCMU_STS_OK;
  const SenseBuffer sense(request.cmd->lib_cmd->sense_buf);
  const int status = to_tcmu_status(request.outcome.error(), request.operation, sense);
  // BUSY and TASK SET FULL promise that nothing happened.
  const bool untouched = status == TCMU_STS_BUSY || status == TCMU_STS_NO_RESOURCE;
  return untouched && request.begun ? TCMU_STS_WR_ERR : status;
}

void Lun::complete(Request* request) {
  tcmur_cmd* const cmd = request->cmd;
  const int status = status_of(*request);
  if (!request->outcome) log_failure(*request, request->outcome.error());
  std::unique_ptr<Request> done(request);
  const bool remembered = request->operation == Operation::compare_and_write ||
                          request->operation == Operation::or_write;
  if (!remembered) pool_.give_back(std::move(done));  // The runner may go on with another command.
  tcmur_cmd_complete(device_, cmd, status);
  --under_way_;  // Till here it may hold what another one would wait for.
  if (!remembered) return;
  clone_->answered(request);
  pool_.give_back(std::move(done));
}

void Lun::log_failure(const Request& request, const Error& error) {
  // A miscompare is an answer, not a fault.
  if (error.code == Errc::miscompare) return;
  std::uint64_t held_back = 0;
  if (!limiter_.allow(held_back)) return;
  std::string line = name_ + ": " + verb(request.operation) + " failed: " + error.message();
  if (held_back > 0) line += " (" + std::to_string(held_back) + " more failures not shown)";
  runner_log(LOG_WARNING, line);
}

Status Lun::status() {
  const std::shared_lock lock(attached_mutex_);
  if (attached_) return clone_->status();
  Status closed;
  closed.name = name_;
  closed.state = CloneState::failed;
  closed.mode = CloneMode::fail;
  closed.reason = "The LUN is being removed.";
  return closed;
}

Result<> Lun::message(std::string_view words) {
  const std::shared_lock lock(attached_mutex_);
  if (!attached_) return fail(Errc::closed, name_ + ": is being removed: nothing was changed");
  return clone_->message(words);
}

Result<Verification> Lun::verify(VerifyAction action) {
  const std::shared_lock lock(attached_mutex_);
  if (!attached_) return fail(Errc::closed, name_ + ": is being removed: nothing is verified");
  return clone_->verify(action);
}

Result<> Lun::reconfigure(const Options& options) {
  const std::shared_lock lock(attached_mutex_);
  if (!attached_) return fail(Errc::closed, name_ + ": is being removed: nothing was changed");
  auto changed = clone_->reconfigure(options);
  if (changed) last_step_ = last_step(options);
  return changed;
}

Result<> Lun::grow(std::uint64_t size_bytes) {
  const std::shared_lock lock(attached_mutex_);
  if (!attached_) return fail(Errc::closed, name_ + ": is being removed: it does not grow");
  return clone_->grow(size_bytes);
}

Result<> Lun::close() {
  {
    const std::unique_lock lock(attached_mutex_);
    if (!attached_) return {};
    attached_ = false;
  }
  // May take as long as the destination does: whoever asks for the status must not wait for that.
  Result<> closed = clone_->close();
  completer_.stop();
  return closed;
}

}  // namespace clonedev
