#include "io/reactor.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>

namespace clonedev {
namespace {

constexpr unsigned kEntries = 512;
constexpr std::size_t kReadyBudget = 256;  // Coroutines resumed before the ring is looked at.

__kernel_timespec to_timespec(Scheduler::Duration duration) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  return {ns / 1'000'000'000, ns % 1'000'000'000};
}

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create() {
  std::unique_ptr<Reactor> reactor(new Reactor);
  if (auto started = reactor->start(); !started) return fail(started.error());
  return reactor;
}

Result<> Reactor::start() {
  doorbell_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (doorbell_ < 0) {
    return fail(Errc::unavailable, std::string("reactor: eventfd: ") + std::strerror(errno));
  }
  io_uring_params params{};
  params.flags = IORING_SETUP_CLAMP | IORING_SETUP_COOP_TASKRUN;
  int error = io_uring_queue_init_params(kEntries, &ring_, &params);
  if (error == -EINVAL) {  // COOP_TASKRUN came with Linux 5.19.
    params = {};
    params.flags = IORING_SETUP_CLAMP;
    error = io_uring_queue_init_params(kEntries, &ring_, &params);
  }
  if (error < 0) {
    return fail(Errc::unavailable, std::string("io_uring: ") + std::strerror(-error) +
                                       ": allow it (sysctl kernel.io_uring_disabled=0)");
  }
  ring_ready_ = true;
  return {};
}

Reactor::~Reactor() {
  if (ring_ready_) io_uring_queue_exit(&ring_);
  if (doorbell_ >= 0) ::close(doorbell_);
}

void Reactor::post(std::function<void()> work) {
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.push_back(std::move(work));
    if (inbox_.size() > 1) return;  // The bell has been rung for the first one.
  }
  eventfd_write(doorbell_, 1);
}

void Reactor::stop() {
  post([this] { stopping_ = true; });
}

void Reactor::run() {
  loop([this] { return stopping_ && !has_ready(); });
}

void Reactor::loop(const std::function<bool()>& done) {
  const Running scope(this);
  while (true) {
    drain_inbox();
    run_ready(kReadyBudget);
    fire_due_timers();
    if (done()) return;
    arm_doorbell();
    submit_and_wait();
    reap();
  }
}

void Reactor::drain_inbox() {
  {
    const std::lock_guard lock(inbox_mutex_);
    taken_.swap(inbox_);
  }
  for (auto& work : taken_) work();
  taken_.clear();
}

void Reactor::arm_doorbell() {
  if (doorbell_armed_) return;
  io_uring_sqe* sqe = next_sqe();
  io_uring_prep_poll_add(sqe, doorbell_, POLLIN);
  io_uring_sqe_set_data(sqe, &doorbell_pending_);
  doorbell_armed_ = true;
}

io_uring_sqe* Reactor::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (!sqe) {
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void Reactor::submit_and_wait() {
  if (has_ready()) {
    io_uring_submit_and_get_events(&ring_);
    return;
  }
  io_uring_cqe* cqe = nullptr;
  const TimePoint due = next_timer();
  if (due == TimePoint::max()) {
    io_uring_submit_and_wait(&ring_, 1);
  } else {
    auto wait = to_timespec(std::max(due - now(), Duration::zero()));
    io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &wait, nullptr);
  }
}

void Reactor::reap() {
  io_uring_cqe* cqe = nullptr;
  unsigned head = 0;
  unsigned count = 0;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    ++count;
    auto* pending = static_cast<Pending*>(io_uring_cqe_get_data(cqe));
    if (!pending) continue;  // The answer to a cancellation.
    pending->result = cqe->res;
    if (pending == &doorbell_pending_) {
      doorbell_armed_ = false;
      eventfd_t rings = 0;
      eventfd_read(doorbell_, &rings);
    } else {
      schedule(pending->waiter);
    }
  }
  io_uring_cq_advance(&ring_, count);
}

void Reactor::Operation::await_suspend(std::coroutine_handle<> handle) {
  pending_.waiter = handle;
  io_uring_sqe* sqe = reactor_.next_sqe();
  prepare_(sqe, arguments_);
  io_uring_sqe_set_data(sqe, &pending_);
}

Reactor::Operation Reactor::readv(int fd, const iovec* data, unsigned count, std::uint64_t offset) {
  const auto prepare = [](io_uring_sqe* sqe, const Operation::Arguments& a) {
    io_uring_prep_readv(sqe, a.fd, a.data, a.count, a.offset);
  };
  return {*this, prepare, {.fd = fd, .data = data, .count = count, .offset = offset}};
}

Reactor::Operation Reactor::writev(int fd, const iovec* data, unsigned count,
                                   std::uint64_t offset) {
  const auto prepare = [](io_uring_sqe* sqe, const Operation::Arguments& a) {
    io_uring_prep_writev(sqe, a.fd, a.data, a.count, a.offset);
  };
  return {*this, prepare, {.fd = fd, .data = data, .count = count, .offset = offset}};
}

Reactor::Operation Reactor::fdatasync(int fd) {
  const auto prepare = [](io_uring_sqe* sqe, const Operation::Arguments& a) {
    io_uring_prep_fsync(sqe, a.fd, IORING_FSYNC_DATASYNC);
  };
  return {*this, prepare, {.fd = fd}};
}

Reactor::Operation Reactor::fallocate(int fd, int mode, std::uint64_t offset,
                                      std::uint64_t length) {
  const auto prepare = [](io_uring_sqe* sqe, const Operation::Arguments& a) {
    io_uring_prep_fallocate(sqe, a.fd, a.mode, static_cast<off_t>(a.offset),
                            static_cast<off_t>(a.length));
  };
  return {*this, prepare, {.fd = fd, .mode = mode, .offset = offset, .length = length}};
}

class Reactor::Watch::Poll {
 public:
  Poll(Watch& watch, short events) : watch_(watch), events_(events) {}
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    pending_.waiter = handle;
    io_uring_sqe* sqe = watch_.reactor_.next_sqe();
    io_uring_prep_poll_add(sqe, watch_.fd_, static_cast<unsigned short>(events_));
    io_uring_sqe_set_data(sqe, &pending_);
    watch_.polling_ = &pending_;
  }
  int await_resume() {
    watch_.polling_ = nullptr;
    return pending_.result;
  }

 private:
  Watch& watch_;
  short events_;
  Pending pending_;
};

struct Reactor::Watch::Deadline : Timer {
  explicit Deadline(Watch& w) : Timer(&expire), watch(w) {}
  ~Deadline() { watch.reactor_.disarm(*this); }
  static void expire(Timer& timer) { static_cast<Deadline&>(timer).watch.wake(); }
  Watch& watch;
};

Task<int> Reactor::Watch::wait(short events, TimePoint deadline) {
  assert(!polling_ && "one waiter a watch");
  if (std::exchange(woken_, false)) co_return 0;
  Deadline timer(*this);
  if (deadline != TimePoint::max()) reactor_.arm(timer, deadline);
  const int result = co_await Poll(*this, events);
  woken_ = false;
  co_return result > 0 ? result : 0;
}

void Reactor::Watch::wake() {
  if (std::exchange(woken_, true) || !polling_) return;
  io_uring_sqe* sqe = reactor_.next_sqe();
  io_uring_prep_poll_remove(sqe, reinterpret_cast<std::uint64_t>(polling_));
  io_uring_sqe_set_data(sqe, nullptr);
}

}  // namespace clonedev
