#include "io/reactor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/event.h"
#include "io/task.h"
#include "scratch_folder.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using Clock = Scheduler::Clock;

constexpr auto kSoon = milliseconds(30);
constexpr auto kFarAway = std::chrono::minutes(5);

std::unique_ptr<Reactor> make_reactor() {
  auto reactor = Reactor::create();
  if (!reactor) {
    ADD_FAILURE() << reactor.error().message();
    std::abort();
  }
  return std::move(*reactor);
}

// A reactor that serves in a thread of its own until the end of the scope.
struct Served {
  Served() : reactor(make_reactor()), thread([this] { reactor->run(); }) {}
  ~Served() {
    reactor->stop();
    thread.join();
  }
  std::unique_ptr<Reactor> reactor;
  std::thread thread;
};

struct Pipe {
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
    out = ends[0];
    in = ends[1];
  }
  ~Pipe() {
    ::close(out);
    ::close(in);
  }
  void feed() const { EXPECT_EQ(::write(in, "x", 1), 1); }
  void drain() const {
    char byte;
    EXPECT_EQ(::read(out, &byte, 1), 1);
  }
  int out = -1;
  int in = -1;
};

TEST(Reactor, runs_what_several_threads_post_each_in_its_order) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  std::vector<std::vector<int>> seen(kThreads);  // Touched on the reactor thread only.
  {
    Served served;
    std::vector<std::thread> posters;
    for (int id = 0; id < kThreads; ++id) {
      posters.emplace_back([&, id] {
        for (int i = 0; i < kPosts; ++i) {
          served.reactor->post([&seen, id, i] { seen[static_cast<std::size_t>(id)].push_back(i); });
        }
      });
    }
    for (std::thread& poster : posters) poster.join();
  }
  for (const auto& numbers : seen) {
    EXPECT_EQ(numbers.size(), static_cast<std::size_t>(kPosts));
    EXPECT_TRUE(std::is_sorted(numbers.begin(), numbers.end()));
  }
}

TEST(Reactor, wakes_up_for_a_post_while_it_sleeps) {
  Served served;
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(milliseconds(2));
    std::atomic<bool> done = false;
    const auto begin = Clock::now();
    served.reactor->post([&done] {
      done = true;
      done.notify_one();
    });
    done.wait(false);
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
  }
}

TEST(Reactor, runs_what_is_posted_from_its_own_thread_and_before_it_runs) {
  const auto reactor = make_reactor();
  std::vector<int> log;
  reactor->post([&] {
    log.push_back(1);
    EXPECT_EQ(&Scheduler::current(), reactor.get());
    reactor->post([&] {
      log.push_back(2);
      reactor->stop();
    });
  });
  reactor->run();
  EXPECT_EQ(log, (std::vector<int>{1, 2}));
}

Task<> sleep_and_note(Reactor& reactor, milliseconds pause, std::vector<long>& log) {
  co_await reactor.sleep_for(pause);
  log.push_back(pause.count());
}

Task<> sleep_sorted(Reactor& reactor, std::vector<long>& log) {
  std::list<Task<>> sleeps;
  for (const int pause : {40, 10, 30, 20, 0}) {
    sleeps.push_back(sleep_and_note(reactor, milliseconds(pause), log));
  }
  for (Task<>& sleep : sleeps) co_await sleep;
}

TEST(Reactor, wakes_sleepers_in_time_and_in_order) {
  const auto reactor = make_reactor();
  std::vector<long> log;
  const auto begin = Clock::now();
  reactor->run(sleep_sorted(*reactor, log));
  EXPECT_GE(Clock::now() - begin, milliseconds(40));
  EXPECT_EQ(log, (std::vector<long>{0, 10, 20, 30, 40}));
}

Task<int> write_at(Reactor& reactor, int fd, std::string& text, std::uint64_t offset) {
  const iovec part{text.data(), text.size()};
  co_return co_await reactor.writev(fd, &part, 1, offset);
}

Task<int> read_at(Reactor& reactor, int fd, std::string& text, std::uint64_t offset) {
  const iovec part{text.data(), text.size()};
  co_return co_await reactor.readv(fd, &part, 1, offset);
}

TEST(Reactor, reads_writes_syncs_and_punches_and_gives_the_kernels_answer) {
  const ScratchFolder folder;
  const int fd = ::open(folder.path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const auto reactor = make_reactor();
  std::string hello = "hello";
  std::string back(16, '?');
  EXPECT_EQ(reactor->run(write_at(*reactor, fd, hello, 4096)), 5);
  EXPECT_EQ(reactor->run(read_at(*reactor, fd, back, 4096)), 5) << "a short read is one";
  EXPECT_EQ(back.substr(0, 5), hello);
  EXPECT_EQ(reactor->run([](Reactor& r, int file) -> Task<int> {
    const int grown = co_await r.fallocate(file, 0, 0, 1 << 20);
    EXPECT_EQ(grown, 0);
    co_return co_await r.fdatasync(file);
  }(*reactor, fd)),
            0);
  EXPECT_EQ(::lseek(fd, 0, SEEK_END), 1 << 20);
  EXPECT_EQ(reactor->run(read_at(*reactor, -1, back, 0)), -EBADF);
  EXPECT_EQ(reactor->run(read_at(*reactor, fd, back, 2 << 20)), 0) << "nothing past the end";
  ::close(fd);
}

Task<> write_number(Reactor& reactor, int fd, std::uint64_t number, int& done) {
  const iovec part{&number, sizeof number};
  const int written = co_await reactor.writev(fd, &part, 1, number * sizeof number);
  EXPECT_EQ(written, static_cast<int>(sizeof number));
  ++done;
}

Task<> write_numbers(Reactor& reactor, int fd, std::uint64_t count, int& done) {
  std::list<Task<>> writes;
  for (std::uint64_t i = 0; i < count; ++i) {
    writes.push_back(write_number(reactor, fd, i, done));
  }
  for (Task<>& write : writes) co_await write;
}

TEST(Reactor, takes_more_operations_at_once_than_its_ring_has_room_for) {
  constexpr std::uint64_t kCount = 8000;
  const ScratchFolder folder;
  const int fd = ::open(folder.path("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const auto reactor = make_reactor();
  int done = 0;
  reactor->run(write_numbers(*reactor, fd, kCount, done));
  EXPECT_EQ(done, static_cast<int>(kCount));
  std::vector<std::uint64_t> numbers(kCount);
  EXPECT_EQ(::pread(fd, numbers.data(), kCount * 8, 0), static_cast<ssize_t>(kCount * 8));
  for (std::uint64_t i = 0; i < kCount; ++i) EXPECT_EQ(numbers[i], i);
  ::close(fd);
}

struct WaitOutcome {
  int events = -1;
  Clock::time_point at;
};

Task<> watch_once(Reactor::Watch& watch, Clock::time_point deadline, WaitOutcome& outcome) {
  outcome.events = co_await watch.wait(POLLIN, deadline);
  outcome.at = Clock::now();
}

Task<> wait_for_feed(Reactor& reactor, const Pipe& pipe) {
  Reactor::Watch watch(reactor, pipe.out);
  for (int round = 0; round < 3; ++round) {
    WaitOutcome outcome;
    Task<> waiting = watch_once(watch, Clock::now() + kFarAway, outcome);
    co_await reactor.sleep_for(milliseconds(1));
    EXPECT_FALSE(waiting.done());
    pipe.feed();
    co_await waiting;
    EXPECT_EQ(outcome.events, POLLIN);
    pipe.drain();
  }
}

TEST(Watch, ends_when_the_descriptor_is_ready) {
  const auto reactor = make_reactor();
  const Pipe pipe;
  reactor->run(wait_for_feed(*reactor, pipe));
}

// What another thread's waker says of a socket can be over when it says so.
Task<> feed_and_take_back(Reactor& reactor, const Pipe& pipe) {
  Reactor::Watch watch(reactor, pipe.out);
  WaitOutcome outcome;
  Task<> waiting = watch_once(watch, Clock::now() + kFarAway, outcome);
  co_await reactor.sleep_for(milliseconds(1));
  pipe.feed();
  pipe.drain();
  co_await reactor.sleep_for(milliseconds(5));
  EXPECT_FALSE(waiting.done()) << "nothing is there: " << outcome.events;
  pipe.feed();
  co_await waiting;
  EXPECT_EQ(outcome.events, POLLIN);
}

TEST(Watch, goes_on_when_what_came_is_gone) {
  const auto reactor = make_reactor();
  const Pipe pipe;
  reactor->run(feed_and_take_back(*reactor, pipe));
}

// A ring tells of a peer that has ended its half, whatever was asked for; told again and again and
// never believed, it would be a loop.
Task<> wait_for_room(Reactor& reactor, int fd, WaitOutcome& outcome) {
  Reactor::Watch watch(reactor, fd);
  outcome.events = co_await watch.wait(POLLOUT, Clock::now() + std::chrono::seconds(2));
  outcome.at = Clock::now();
}

TEST(Watch, ends_when_the_peer_has_ended_its_half) {
  const auto reactor = make_reactor();
  if (reactor->io_name() != std::string("io_uring"))
    GTEST_SKIP() << "poll(2) tells what it is asked";
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
  const std::vector<char> bytes(65536);
  while (::write(ends[0], bytes.data(), bytes.size()) > 0) continue;
  ASSERT_EQ(::shutdown(ends[1], SHUT_WR), 0);
  WaitOutcome outcome;
  reactor->run(wait_for_room(*reactor, ends[0], outcome));
  EXPECT_EQ(outcome.events, POLLHUP);
  ::close(ends[0]);
  ::close(ends[1]);
}

Task<> wait_and_wake(Reactor& reactor, const Pipe& pipe) {
  Reactor::Watch watch(reactor, pipe.out);
  WaitOutcome outcome;
  Task<> waiting = watch_once(watch, Scheduler::TimePoint::max(), outcome);
  co_await reactor.sleep_for(milliseconds(1));
  watch.wake();
  watch.wake();
  co_await waiting;
  EXPECT_EQ(outcome.events, 0);

  watch.wake();
  Task<> woken_before = watch_once(watch, Scheduler::TimePoint::max(), outcome);
  EXPECT_TRUE(woken_before.done()) << "a wake before the wait ends the wait";
  EXPECT_EQ(outcome.events, 0);

  Task<> fed = watch_once(watch, Scheduler::TimePoint::max(), outcome);
  EXPECT_FALSE(fed.done()) << "one wake ends one wait";
  pipe.feed();
  co_await fed;
  EXPECT_EQ(outcome.events, POLLIN);
}

TEST(Watch, ends_when_somebody_wakes_it) {
  const auto reactor = make_reactor();
  const Pipe pipe;
  reactor->run(wait_and_wake(*reactor, pipe));
}

Task<> wait_for_deadline(Reactor& reactor, const Pipe& pipe) {
  Reactor::Watch watch(reactor, pipe.out);
  for (const auto patience : {kSoon, milliseconds(-1), milliseconds(0)}) {
    WaitOutcome outcome;
    const auto deadline = Clock::now() + patience;
    co_await watch_once(watch, deadline, outcome);
    EXPECT_EQ(outcome.events, 0);
    EXPECT_GE(outcome.at, deadline);
  }
  pipe.feed();
  WaitOutcome outcome;
  const auto deadline = Clock::now() + kFarAway;
  co_await watch_once(watch, deadline, outcome);
  EXPECT_EQ(outcome.events, POLLIN) << "a deadline that passed earlier must not end this wait";
}

TEST(Watch, ends_when_the_deadline_passes) {
  const auto reactor = make_reactor();
  const Pipe pipe;
  reactor->run(wait_for_deadline(*reactor, pipe));
}

// Ready and woken at about the same time, many times: no wait may be lost or end too early.
Task<> race(Reactor& reactor, const Pipe& pipe, int rounds) {
  Reactor::Watch watch(reactor, pipe.out);
  for (int i = 0; i < rounds; ++i) {
    WaitOutcome outcome;
    Task<> waiting = watch_once(watch, Clock::now() + kFarAway, outcome);
    if (i % 2) co_await reactor.sleep_for(std::chrono::microseconds(i % 7 * 20));
    if (i % 3) pipe.feed();
    if (i % 3 != 1) watch.wake();
    co_await waiting;
    EXPECT_TRUE(outcome.events == 0 || outcome.events == POLLIN);
    EXPECT_TRUE(i % 3 != 1 || outcome.events == POLLIN);
    if (i % 3) pipe.drain();
  }
}

TEST(Watch, survives_a_wake_that_meets_the_event) {
  const auto reactor = make_reactor();
  const Pipe pipe;
  reactor->run(race(*reactor, pipe, 2000));
}

}  // namespace
}  // namespace clonedev
