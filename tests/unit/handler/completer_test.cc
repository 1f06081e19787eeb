#include "completer.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace clonedev {
namespace {

struct Job : Completer::Item {
  std::atomic<int> finished{0};
  Completer* completer = nullptr;
  Job* then = nullptr;
};

void count(Completer::Item* item) { ++static_cast<Job*>(item)->finished; }

TEST(Completer, finishes_each_item_once_whoever_pushes) {
  constexpr std::size_t kJobs = 4000;
  std::vector<Job> jobs(kJobs);
  Completer completer(count);
  std::vector<std::thread> pushers;
  for (std::size_t part = 0; part < 4; ++part) {
    pushers.emplace_back([&, part] {
      for (std::size_t i = part; i < kJobs; i += 4) completer.push(&jobs[i]);
    });
  }
  for (auto& pusher : pushers) pusher.join();
  completer.stop();
  for (const Job& job : jobs) EXPECT_EQ(job.finished, 1);
}

TEST(Completer, stop_waits_for_what_finishing_pushes) {
  Job second;
  Job first;
  Completer completer([](Completer::Item* item) {
    auto* const job = static_cast<Job*>(item);
    if (job->then != nullptr) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      job->completer->push(job->then);
    }
    ++job->finished;
  });
  first.completer = &completer;
  first.then = &second;
  completer.push(&first);
  completer.stop();
  EXPECT_EQ(first.finished, 1);
  EXPECT_EQ(second.finished, 1);
}

std::mutex pair_mutex;
std::condition_variable pair_met;
int pair_inside = 0;

TEST(Completer, two_commands_can_be_inside_the_runner_at_once) {
  Job jobs[2];
  Completer completer([](Completer::Item* item) {
    std::unique_lock lock(pair_mutex);
    ++pair_inside;
    pair_met.notify_all();
    if (pair_met.wait_for(lock, std::chrono::seconds(20), [] { return pair_inside == 2; })) {
      ++static_cast<Job*>(item)->finished;
    }
  });
  completer.push(&jobs[0]);
  completer.push(&jobs[1]);
  completer.stop();
  EXPECT_EQ(jobs[0].finished + jobs[1].finished, 2);
}

std::atomic<bool> term_blocked{false};

TEST(Completer, threads_leave_signals_to_the_daemon) {
  Job job;
  Completer completer([](Completer::Item*) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    term_blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGHUP) == 1;
  });
  completer.push(&job);
  completer.stop();
  EXPECT_TRUE(term_blocked);
  sigset_t own;
  pthread_sigmask(SIG_SETMASK, nullptr, &own);
  EXPECT_EQ(sigismember(&own, SIGTERM), 0) << "the caller's mask must come back";
}

}  // namespace
}  // namespace clonedev
