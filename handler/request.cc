#include "request.h"

#include <new>

namespace clonedev {

RequestPool::RequestPool(std::size_t ready) {
  free_.reserve(ready);
  for (std::size_t i = 0; i < ready; ++i) free_.push_back(std::make_unique<Request>());
}

std::unique_ptr<Request> RequestPool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      std::unique_ptr<Request> request = std::move(free_.back());
      free_.pop_back();
      return request;
    }
  }
  return std::unique_ptr<Request>(new (std::nothrow) Request);
}

void RequestPool::give_back(std::unique_ptr<Request> request) {
  *request = Request{};
  const std::lock_guard lock(mutex_);
  if (free_.size() < free_.capacity()) free_.push_back(std::move(request));
}

}  // namespace clonedev
