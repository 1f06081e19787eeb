// I/O by io_uring: what was submitted since the last wait goes to the kernel in one system call,
// the one that waits.

#include <liburing.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/doorbell.h"
#include "io/io_backend.h"

namespace clonedev {
namespace {

constexpr unsigned kEntries = 512;

// Without EXT_ARG (Linux 5.11) liburing's time-outs are requests with answers of their own;
// without NODROP (5.5) answers can be lost.
constexpr unsigned kFeatures = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
constexpr int kOpcodes[] = {IORING_OP_READV,     IORING_OP_WRITEV,   IORING_OP_FSYNC,
                            IORING_OP_FALLOCATE, IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE};

class RingBackend final : public IoBackend {
 public:
  ~RingBackend() override {
    if (created_) io_uring_queue_exit(&ring_);
  }

  Result<> start();

  const char* name() const override { return "io_uring"; }
  void submit(IoRequest& request) override;
  void cancel(IoRequest& poll) override;
  void wait(Scheduler::Duration patience, Scheduler& scheduler) override;
  void wake() override { doorbell_.ring(); }

 private:
  int create();
  bool serves_all();
  io_uring_sqe* next_sqe();
  void arm_doorbell();
  void reap(Scheduler& scheduler);

  io_uring ring_{};
  bool created_ = false;
  Doorbell doorbell_;
  IoRequest doorbell_poll_;  // Has no waiter.
  bool doorbell_armed_ = false;
};

tl::unexpected<Error> no_ring(const char* why) {
  return fail(Errc::unavailable, std::string("io_uring: ") + why);
}

int RingBackend::create() {
  io_uring_params params{};
  params.flags = IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN;
  int error = io_uring_queue_init_params(kEntries, &ring_, &params);
  if (error == -EINVAL) {  // COOP_TASKRUN came with Linux 5.19.
    params = {};
    params.flags = IORING_SETUP_CLAMP;
    error = io_uring_queue_init_params(kEntries, &ring_, &params);
  }
  created_ = error >= 0;
  return error;
}

// A ring can be had and still be of no use: too old, or a filter stops the other two system calls.
bool RingBackend::serves_all() {
  if ((ring_.features & kFeatures) != kFeatures) return false;
  io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
  if (!probe) return false;
  const bool knows_all = std::all_of(std::begin(kOpcodes), std::end(kOpcodes), [probe](int opcode) {
    return io_uring_opcode_supported(probe, opcode) != 0;
  });
  io_uring_free_probe(probe);
  return knows_all && io_uring_submit_and_get_events(&ring_) >= 0;
}

Result<> RingBackend::start() {
  if (doorbell_.fd() < 0) return no_ring(std::strerror(errno));
  if (const int error = create(); error < 0) return no_ring(std::strerror(-error));
  if (!serves_all()) return no_ring("this kernel's has not all that is needed (Linux 5.11)");
  return {};
}

io_uring_sqe* RingBackend::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (!sqe) {
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void RingBackend::submit(IoRequest& request) {
  io_uring_sqe* const sqe = next_sqe();
  switch (request.kind) {
    case IoRequest::Kind::read:
      io_uring_prep_readv(sqe, request.fd, request.data, request.count, request.offset);
      break;
    case IoRequest::Kind::write:
      io_uring_prep_writev(sqe, request.fd, request.data, request.count, request.offset);
      break;
    case IoRequest::Kind::datasync:
      io_uring_prep_fsync(sqe, request.fd, IORING_FSYNC_DATASYNC);
      break;
    case IoRequest::Kind::fallocate:
      io_uring_prep_fallocate(sqe, request.fd, request.mode, static_cast<off_t>(request.offset),
                              static_cast<off_t>(request.length));
      break;
    case IoRequest::Kind::poll:
      io_uring_prep_poll_add(sqe, request.fd, static_cast<unsigned>(request.mode));
      break;
  }
  io_uring_sqe_set_data(sqe, &request);
}

void RingBackend::cancel(IoRequest& poll) {
  io_uring_sqe* const sqe = next_sqe();
  io_uring_prep_poll_remove(sqe, reinterpret_cast<std::uint64_t>(&poll));
  io_uring_sqe_set_data(sqe, nullptr);
}

void RingBackend::arm_doorbell() {
  if (doorbell_armed_) return;
  doorbell_poll_.kind = IoRequest::Kind::poll;
  doorbell_poll_.fd = doorbell_.fd();
  doorbell_poll_.mode = POLLIN;
  submit(doorbell_poll_);
  doorbell_armed_ = true;
}

void RingBackend::wait(Scheduler::Duration patience, Scheduler& scheduler) {
  arm_doorbell();
  if (patience == Scheduler::Duration::zero()) {
    io_uring_submit_and_get_events(&ring_);
  } else if (patience == Scheduler::Duration::max()) {
    io_uring_submit_and_wait(&ring_, 1);
  } else {
    io_uring_cqe* cqe = nullptr;
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(patience).count();
    __kernel_timespec time{ns / 1'000'000'000, ns % 1'000'000'000};
    io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &time, nullptr);
  }
  reap(scheduler);
}

void RingBackend::reap(Scheduler& scheduler) {
  io_uring_cqe* cqe = nullptr;
  unsigned head = 0;
  unsigned count = 0;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++count;
    auto* const request = static_cast<IoRequest*>(io_uring_cqe_get_data(cqe));
    if (!request) continue;  // The answer to a cancellation.
    request->result = cqe->res;
    if (request == &doorbell_poll_) {
      doorbell_armed_ = false;
      doorbell_.silence();
    } else {
      scheduler.schedule(request->waiter);
    }
  }
  io_uring_cq_advance(&ring_, count);
}

}  // namespace

Result<std::unique_ptr<IoBackend>> make_ring_backend() {
  auto backend = std::make_unique<RingBackend>();
  if (auto started = backend->start(); !started) return fail(started.error());
  return backend;
}

}  // namespace clonedev
