// Hands finished commands back to the runner, away from the device's reactor.
//
// tcmur_cmd_complete is a system call, a kernel mutex and the copy of all read data; and for a
// compound command (WRITE VERIFY and the like) it calls the handler's callouts again. So it runs on
// small threads of its own, with no lock held. Two of them a LUN: while one is in the system call,
// the other only posts, and the runner wakes the kernel once for both.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace clonedev {

class Completer {
 public:
  // A finished command waiting for its turn. The owner keeps it alive until `finish` was called.
  struct Item {
    Item* next = nullptr;
  };
  // Called exactly once for each pushed item, on a completer thread, without any lock.
  using Finish = void (*)(Item* item);

  static constexpr unsigned kThreads = 2;

  // Starts the threads with all signals blocked. Throws std::system_error when there are none left.
  explicit Completer(Finish finish, unsigned threads = kThreads);
  ~Completer();
  Completer(const Completer&) = delete;
  Completer& operator=(const Completer&) = delete;

  // Thread: any. Does not allocate and does not wait.
  void push(Item* item);

  // Finishes everything that was pushed, also by `finish` itself, then ends the threads.
  // Idempotent; not from a completer thread.
  void stop();

 private:
  void run();
  Item* pop_or_wait();

  const Finish finish_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Item* head_ = nullptr;  // Guarded by mutex_, as are the three below.
  Item* tail_ = nullptr;
  unsigned busy_ = 0;  // Threads inside finish_, which may push more.
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace clonedev
