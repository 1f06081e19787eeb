#include "io/reactor.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace clonedev {
namespace {

constexpr std::size_t kReadyBudget = 256;  // Coroutines resumed at a stretch.

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create() {
  auto backend = make_io_backend();
  if (!backend) return fail(backend.error());
  return std::unique_ptr<Reactor>(new Reactor(std::move(*backend)));
}

void Reactor::post(std::function<void()> work) {
  bool was_asleep = false;
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.push_back(std::move(work));
    was_asleep = std::exchange(asleep_, false);
  }
  if (was_asleep) backend_->wake();
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
    run_ready(kReadyBudget);
    fire_due_timers();
    // Who was resumed may have posted, as a host does that goes on at once, and what was posted
    // resumes others: all of it before the kernel is asked again.
    drain_inbox();
    run_ready(kReadyBudget);
    if (done()) return;
    sleep();
  }
}

void Reactor::sleep() {
  Duration longest = patience();
  {
    const std::lock_guard lock(inbox_mutex_);
    if (!inbox_.empty()) longest = Duration::zero();
    asleep_ = longest > Duration::zero();
  }
  backend_->wait(longest, *this);
  const std::lock_guard lock(inbox_mutex_);
  asleep_ = false;
}

void Reactor::drain_inbox() {
  {
    const std::lock_guard lock(inbox_mutex_);
    taken_.swap(inbox_);
  }
  for (auto& work : taken_) work();
  taken_.clear();
}

Scheduler::Duration Reactor::patience() const {
  if (has_ready()) return Duration::zero();
  const TimePoint due = next_timer();
  return due == TimePoint::max() ? Duration::max() : std::max(due - now(), Duration::zero());
}

Reactor::Operation Reactor::readv(int fd, const iovec* data, unsigned count, std::uint64_t offset) {
  return {
      *backend_,
      {.kind = IoRequest::Kind::read, .fd = fd, .count = count, .data = data, .offset = offset}};
}

Reactor::Operation Reactor::writev(int fd, const iovec* data, unsigned count,
                                   std::uint64_t offset) {
  return {
      *backend_,
      {.kind = IoRequest::Kind::write, .fd = fd, .count = count, .data = data, .offset = offset}};
}

Reactor::Operation Reactor::fdatasync(int fd) {
  return {*backend_, {.kind = IoRequest::Kind::datasync, .fd = fd}};
}

Reactor::Operation Reactor::fallocate(int fd, int mode, std::uint64_t offset,
                                      std::uint64_t length) {
  return {*backend_,
          {.kind = IoRequest::Kind::fallocate,
           .fd = fd,
           .mode = mode,
           .offset = offset,
           .length = length}};
}

class Reactor::Watch::Poll {
 public:
  Poll(Watch& watch, short events)
      : watch_(watch), request_{.kind = IoRequest::Kind::poll, .fd = watch.fd_, .mode = events} {}
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    request_.waiter = handle;
    watch_.polling_ = &request_;
    watch_.reactor_.backend_->submit(request_);
  }
  int await_resume() {
    watch_.polling_ = nullptr;
    return request_.result;
  }

 private:
  Watch& watch_;
  IoRequest request_;
};

struct Reactor::Watch::Deadline : Timer {
  explicit Deadline(Watch& w) : Timer(&expire), watch(w) {}
  ~Deadline() { watch.reactor_.disarm(*this); }
  static void expire(Timer& timer) { static_cast<Deadline&>(timer).watch.wake(); }
  Watch& watch;
};

// A ring tells what a waker said, which need not be true any more: a socket's data can be read
// before their sender wakes who waits for them. libnbd, told to read where nothing is, sends
// nothing either until something comes.
int Reactor::Watch::ready_now(int fd, short events) {
  pollfd entry{fd, static_cast<short>(events | POLLRDHUP), 0};  // A ring adds that itself.
  if (::poll(&entry, 1, 0) <= 0) return 0;
  return entry.revents == POLLRDHUP ? POLLHUP : entry.revents & ~POLLRDHUP;
}

Task<int> Reactor::Watch::wait(short events, TimePoint deadline) {
  assert(!polling_ && "one waiter a watch");
  if (std::exchange(woken_, false)) co_return 0;
  Deadline timer(*this);
  if (deadline != TimePoint::max()) reactor_.arm(timer, deadline);
  int ready = 0;
  int said = 0;
  do {
    said = co_await Poll(*this, events);
    if (said > 0) ready = ready_now(fd_, events);
  } while (said > 0 && ready == 0 && !woken_);
  woken_ = false;
  co_return ready;
}

void Reactor::Watch::wake() {
  if (std::exchange(woken_, true) || !polling_) return;
  reactor_.backend_->cancel(*polling_);
}

}  // namespace clonedev
