#include "completer.h"

#include <system_error>

#include "clonedev/service_thread.h"

namespace clonedev {

Completer::Completer(Finish finish, unsigned threads) : finish_(finish) {
  threads_.reserve(threads);
  try {
    for (unsigned i = 0; i < threads; ++i) {
      threads_.push_back(start_service_thread("clone-complete", Rights::none, [this] { run(); }));
    }
  } catch (const std::system_error&) {
    stop();
    throw;
  }
}

Completer::~Completer() { stop(); }

void Completer::push(Item* item) {
  item->next = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (tail_ != nullptr) {
      tail_->next = item;
    } else {
      head_ = item;
    }
    tail_ = item;
  }
  wake_.notify_one();
}

Completer::Item* Completer::pop_or_wait() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return head_ != nullptr || (stopping_ && busy_ == 0); });
  if (head_ == nullptr) return nullptr;
  Item* const item = head_;
  head_ = item->next;
  if (head_ == nullptr) tail_ = nullptr;
  ++busy_;
  return item;
}

void Completer::run() {
  while (Item* const item = pop_or_wait()) {
    finish_(item);
    bool last = false;
    {
      const std::lock_guard lock(mutex_);
      --busy_;
      last = stopping_ && busy_ == 0 && head_ == nullptr;
    }
    if (last) wake_.notify_all();
  }
}

void Completer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

}  // namespace clonedev
