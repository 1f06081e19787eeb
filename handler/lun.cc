// A command's way: callout (cmdproc or completer thread) -> CloneDevice -> on_done (reactor) ->
// completer -> on_turn: the next step of a WRITE SAME, the second try of an UNMAP, or
// tcmur_cmd_complete. Further steps start on the completer, never in on_done or a callout: that is
// what keeps a chain of a million steps from becoming a million stack frames.
#include "lun.h"

#include <syslog.h>

#include <algorithm>
#include <mutex>

#include "scsi_cdb.h"

namespace clonedev {
namespace {

// The kernel's own queue depth for a TCMU device.
constexpr std::size_t kReadyRequests = 128;

bool all_zero(std::span<const std::byte> block) {
  return std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
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
  }
  return "command";
}

}  // namespace

Lun::Lun(tcmu_device* device, std::string name, Options options, std::unique_ptr<CloneDevice> clone)
    : device_(device),
      name_(std::move(name)),
      write_cache_(options.write_cache),
      clone_(std::move(clone)),
      pool_(kReadyRequests),
      completer_(&Lun::on_turn) {}

Lun::~Lun() { close(); }

Request* Lun::begin(tcmur_cmd* cmd, Operation operation) {
  std::unique_ptr<Request> request = pool_.take();
  if (!request) return nullptr;
  request->lun = this;
  request->cmd = cmd;
  request->operation = operation;
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
  clone_->read(extent, data, Completion{&Lun::on_done, request});
  return TCMU_STS_OK;
}

int Lun::write(tcmur_cmd* cmd, std::span<const iovec> data, Extent extent) {
  Request* const request = begin(cmd, Operation::write);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  if (extent.empty()) return finish_empty(request);
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

int Lun::unmap(tcmur_cmd* cmd, Extent extent) {
  Request* const request = begin(cmd, Operation::unmap);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  if (extent.empty()) return finish_empty(request);
  request->rest = extent;
  clone_->zero(extent, Zeroing::deallocate, false, Completion{&Lun::on_done, request});
  return TCMU_STS_OK;
}

int Lun::write_same(tcmur_cmd* cmd, std::span<const std::byte> block, Extent extent,
                    bool deallocate) {
  std::unique_ptr<Pattern> pattern;
  const bool zeroes = all_zero(block);
  if (!zeroes) {
    pattern = Pattern::repeat(block, extent.length);
    if (!pattern) return TCMU_STS_NO_RESOURCE;
  }
  Request* const request = begin(cmd, Operation::write_same);
  if (request == nullptr) return TCMU_STS_NO_RESOURCE;
  if (extent.empty()) return finish_empty(request);
  if (zeroes) {
    clone_->zero(extent, deallocate ? Zeroing::deallocate : Zeroing::keep, false,
                 Completion{&Lun::on_done, request});
    return TCMU_STS_OK;
  }
  request->pattern = std::move(pattern);
  request->rest = extent;
  write_step(*request);
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

void Lun::write_step(Request& request) {
  const Extent step{request.rest.offset,
                    std::min(request.rest.length, request.pattern->step_bytes())};
  request.rest = Extent{step.end(), request.rest.length - step.length};
  // The step may be done, and the request gone, before this call returns.
  clone_->write(step, request.pattern->iovecs(), false, Completion{&Lun::on_done, &request});
}

void Lun::on_done(void* context, const Result<>& outcome) {
  auto* const request = static_cast<Request*>(context);
  Lun& lun = *request->lun;
  lun.settle(*request, outcome);
  lun.completer_.push(request);
}

void Lun::settle(Request& request, const Result<>& outcome) {
  request.status = TCMU_STS_OK;
  if (outcome) return;
  if (request.operation == Operation::unmap) {
    // Several discards of one UNMAP share one sense buffer, and nobody reads it.
    request.status = TCMU_STS_HW_ERR;
  } else {
    const SenseBuffer sense(request.cmd->lib_cmd->sense_buf);
    request.status = to_tcmu_status(outcome.error(), request.operation, sense);
    // BUSY and TASK SET FULL promise that nothing happened.
    const bool untouched =
        request.status == TCMU_STS_BUSY || request.status == TCMU_STS_NO_RESOURCE;
    if (untouched && request.begun) request.status = TCMU_STS_WR_ERR;
  }
  log_failure(request, outcome.error());
}

void Lun::on_turn(Completer::Item* item) {
  auto* const request = static_cast<Request*>(item);
  Lun& lun = *request->lun;
  const bool failed = request->status != TCMU_STS_OK;
  if (request->operation == Operation::write_same && !failed && !request->rest.empty()) {
    request->begun = true;
    lun.write_step(*request);
    return;
  }
  if (request->operation == Operation::unmap && failed && !request->second_try) {
    request->second_try = true;
    lun.clone_->zero(request->rest, Zeroing::keep, false, Completion{&Lun::on_done, request});
    return;
  }
  lun.complete(request);
}

void Lun::complete(Request* request) {
  tcmur_cmd* const cmd = request->cmd;
  const int status = request->status;
  std::unique_ptr<Request> done(request);
  const bool remembered = request->operation == Operation::compare_and_write;
  if (!remembered) pool_.give_back(std::move(done));  // The runner may go on with another command.
  tcmur_cmd_complete(device_, cmd, status);
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
  return clone_->reconfigure(options);
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
