// I/O by threads, each in one blocking system call at a time.
//
// What is submitted queues in *lanes*, one for each descriptor and kind of work, and a lane is
// served by a few threads at most: a device that does not answer holds up neither another device
// nor the origin, and neither do writes a flush nor flushes the writes. Lanes take turns. The
// queues need no memory and have no limit of their own: they link requests, each of which belongs
// to a coroutine that waits for it, and those are bounded by their makers.
//
// Threads are started when there is a turn that nobody takes, and stay. Descriptors are polled by
// the reactor's own thread, while it waits.
//
// I12: a killed process keeps its descriptors, and so the locks on its files, until the last of its
// threads has left the kernel; a write on its way to a slow device is one that has not.

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

#include "clonedev/service_thread.h"
#include "io/doorbell.h"
#include "io/io_backend.h"

namespace clonedev {
namespace {

// Enough for a stalled destination and a stalled origin, and then for the metadata.
constexpr std::size_t kMostThreads = 64;
constexpr unsigned kMostTransfers = 16;  // Of one descriptor at a time.
constexpr unsigned kMostOthers = 2;

class RequestQueue {
 public:
  bool empty() const { return !first_; }
  void push(IoRequest& request) {
    request.next = nullptr;
    (first_ ? last_->next : first_) = &request;
    last_ = &request;
  }
  IoRequest& pop() { return *std::exchange(first_, first_->next); }

 private:
  IoRequest* first_ = nullptr;
  IoRequest* last_ = nullptr;
};

int perform(const IoRequest& r) {
  const auto count = static_cast<int>(r.count);
  const auto offset = static_cast<off_t>(r.offset);
  ssize_t result = 0;
  switch (r.kind) {
    case IoRequest::Kind::read:
      result = ::preadv(r.fd, r.data, count, offset);
      break;
    case IoRequest::Kind::write:
      result = ::pwritev(r.fd, r.data, count, offset);
      break;
    case IoRequest::Kind::datasync:
      result = ::fdatasync(r.fd);
      break;
    case IoRequest::Kind::fallocate:
      result = ::fallocate(r.fd, r.mode, offset, static_cast<off_t>(r.length));
      break;
    case IoRequest::Kind::poll:
      assert(false && "polls are not performed");
  }
  return result < 0 ? -errno : static_cast<int>(result);
}

class ThreadBackend final : public IoBackend {
 public:
  ~ThreadBackend() override;

  Result<> start();

  const char* name() const override { return "threads"; }
  void submit(IoRequest& request) override;
  void cancel(IoRequest& poll) override;
  void wait(Scheduler::Duration patience, Scheduler& scheduler) override;
  void wake() override { doorbell_.ring(); }

 private:
  enum class Work : std::uint8_t { transfer, flush, allocation };
  using LaneKey = std::pair<int, Work>;
  struct Lane {
    RequestQueue queue;
    unsigned running = 0;
    bool in_turn = false;
  };
  using Lanes = std::map<LaneKey, Lane>;

  static LaneKey lane_of(const IoRequest& request);
  static unsigned most_running(Work work);

  void hand_over();
  void sleep(Scheduler::Duration patience);
  void end_polls(Scheduler& scheduler);
  void end_poll(std::size_t index, int result);
  void schedule_all(RequestQueue& ended, Scheduler& scheduler);

  // With mutex_ held.
  void give_turn(Lanes::iterator lane);
  void call_a_thread();

  void serve();
  void serve_turn(std::unique_lock<std::mutex>& lock);

  // With its own synchronization.
  Doorbell doorbell_;

  // Reactor thread.
  RequestQueue submitted_;
  std::vector<pollfd> polled_;     // The doorbell, then those of polls_.
  std::vector<IoRequest*> polls_;  // In the same order.
  RequestQueue ended_polls_;

  std::mutex mutex_;
  std::condition_variable turn_;
  // Below: protected by mutex_.
  Lanes lanes_;  // Those with anything queued or running.
  std::deque<Lanes::iterator> turns_;
  RequestQueue done_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
};

Result<> ThreadBackend::start() {
  const auto refused = [](const char* why) {
    return fail(Errc::unavailable, std::string("threads for I/O: ") + why);
  };
  if (doorbell_.fd() < 0) return refused(std::strerror(errno));
  polled_.push_back({doorbell_.fd(), POLLIN, 0});
  try {
    threads_.push_back(start_service_thread("clone-io", Rights::none, [this] { serve(); }));
  } catch (const std::system_error& error) {
    return refused(error.what());
  }
  return {};
}

ThreadBackend::~ThreadBackend() {
  {
    const std::lock_guard lock(mutex_);
    assert(lanes_.empty() && done_.empty() && polls_.empty() && "I/O is in flight");
    stopping_ = true;
  }
  turn_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadBackend::submit(IoRequest& request) {
  if (request.kind != IoRequest::Kind::poll) {
    submitted_.push(request);
    return;
  }
  polls_.push_back(&request);
  polled_.push_back({request.fd, static_cast<short>(request.mode), 0});
}

void ThreadBackend::cancel(IoRequest& poll) {
  const auto found = std::find(polls_.begin(), polls_.end(), &poll);
  if (found == polls_.end()) return;
  end_poll(static_cast<std::size_t>(found - polls_.begin()), -ECANCELED);
}

void ThreadBackend::end_poll(std::size_t index, int result) {
  polls_[index]->result = result;
  ended_polls_.push(*polls_[index]);
  polls_.erase(polls_.begin() + static_cast<std::ptrdiff_t>(index));
  polled_.erase(polled_.begin() + static_cast<std::ptrdiff_t>(index) + 1);
}

void ThreadBackend::wait(Scheduler::Duration patience, Scheduler& scheduler) {
  hand_over();
  sleep(ended_polls_.empty() ? patience : Scheduler::Duration::zero());
  end_polls(scheduler);
  RequestQueue done;
  {
    const std::lock_guard lock(mutex_);
    std::swap(done, done_);
  }
  schedule_all(done, scheduler);
}

void ThreadBackend::hand_over() {
  if (submitted_.empty()) return;
  const std::lock_guard lock(mutex_);
  while (!submitted_.empty()) {
    IoRequest& request = submitted_.pop();
    const auto lane = lanes_.try_emplace(lane_of(request)).first;
    lane->second.queue.push(request);
    give_turn(lane);
  }
  call_a_thread();
}

void ThreadBackend::sleep(Scheduler::Duration patience) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(patience).count();
  const timespec time{ns / 1'000'000'000, ns % 1'000'000'000};
  const bool for_ever = patience == Scheduler::Duration::max();
  if (::ppoll(polled_.data(), polled_.size(), for_ever ? nullptr : &time, nullptr) <= 0) {
    for (pollfd& entry : polled_) entry.revents = 0;  // What poll leaves there when it fails.
  }
}

void ThreadBackend::end_polls(Scheduler& scheduler) {
  if (polled_[0].revents != 0) doorbell_.silence();
  for (std::size_t i = polls_.size(); i-- > 0;) {
    if (polled_[i + 1].revents != 0) end_poll(i, polled_[i + 1].revents);
  }
  schedule_all(ended_polls_, scheduler);
}

void ThreadBackend::schedule_all(RequestQueue& ended, Scheduler& scheduler) {
  while (!ended.empty()) scheduler.schedule(ended.pop().waiter);
}

ThreadBackend::LaneKey ThreadBackend::lane_of(const IoRequest& request) {
  switch (request.kind) {
    case IoRequest::Kind::datasync:
      return {request.fd, Work::flush};
    case IoRequest::Kind::fallocate:
      return {request.fd, Work::allocation};
    default:
      return {request.fd, Work::transfer};
  }
}

unsigned ThreadBackend::most_running(Work work) {
  return work == Work::transfer ? kMostTransfers : kMostOthers;
}

void ThreadBackend::give_turn(Lanes::iterator lane) {
  Lane& state = lane->second;
  if (state.in_turn || state.queue.empty()) return;
  if (state.running == most_running(lane->first.second)) return;
  state.in_turn = true;
  turns_.push_back(lane);
}

// Whoever is called calls the next one, so that nobody wakes more threads than there is work for.
void ThreadBackend::call_a_thread() {
  if (turns_.empty()) return;
  if (idle_ > 0) {
    turn_.notify_one();
  } else if (threads_.size() < kMostThreads) {
    try {
      threads_.push_back(start_service_thread("clone-io", Rights::none, [this] { serve(); }));
    } catch (const std::system_error&) {
      // Those that are there take the turn when they are done.
    }
  }
}

void ThreadBackend::serve() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_;
    turn_.wait(lock, [this] { return !turns_.empty() || stopping_; });
    --idle_;
    if (turns_.empty()) return;
    serve_turn(lock);
  }
}

void ThreadBackend::serve_turn(std::unique_lock<std::mutex>& lock) {
  const auto lane = turns_.front();
  turns_.pop_front();
  Lane& state = lane->second;
  state.in_turn = false;
  IoRequest& request = state.queue.pop();
  ++state.running;
  give_turn(lane);
  call_a_thread();

  lock.unlock();
  request.result = perform(request);
  lock.lock();

  const bool first = done_.empty();
  done_.push(request);
  if (first) doorbell_.ring();
  --state.running;
  give_turn(lane);
  if (state.queue.empty() && state.running == 0) lanes_.erase(lane);
}

}  // namespace

Result<std::unique_ptr<IoBackend>> make_thread_backend() {
  auto backend = std::make_unique<ThreadBackend>();
  if (auto started = backend->start(); !started) return fail(started.error());
  return backend;
}

}  // namespace clonedev
