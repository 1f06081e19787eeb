#include "request.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace clonedev {

std::unique_ptr<Pattern> Pattern::repeat(std::span<const std::byte> block, std::uint64_t total) {
  constexpr std::size_t kAlignment = 4096;  // So that a destination opened O_DIRECT takes it as is.
  std::unique_ptr<Pattern> made(new (std::nothrow) Pattern);
  if (!made) return nullptr;
  made->buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, kBufferBytes)));
  if (!made->buffer_) return nullptr;
  const auto used = static_cast<std::size_t>(std::min<std::uint64_t>(total, kBufferBytes));
  for (std::size_t at = 0; at < used; at += block.size()) {
    std::memcpy(made->buffer_.get() + at, block.data(), std::min(block.size(), used - at));
  }
  made->iovecs_.fill(iovec{made->buffer_.get(), used});
  made->step_bytes_ = used * kRepeats;
  return made;
}

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
