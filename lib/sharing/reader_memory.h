// The memory of a reader that may lose interest while another thread reads for it (I14).
//
// Thread: any.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <span>

namespace clonedev {

class ReaderMemory {
 public:
  explicit ReaderMemory(std::span<std::byte> bytes) : size_(bytes.size()), bytes_(bytes) {}
  ReaderMemory(const ReaderMemory&) = delete;
  ReaderMemory& operator=(const ReaderMemory&) = delete;

  std::size_t size() const { return size_; }
  // `data` has size() bytes. Does nothing once it was withdrawn.
  void fill(std::span<const std::byte> data) {
    assert(data.size() == size_);
    const std::lock_guard lock(mutex_);
    if (!bytes_.empty()) std::memcpy(bytes_.data(), data.data(), size_);
  }
  // From here on the memory is its owner's alone.
  void withdraw() {
    const std::lock_guard lock(mutex_);
    bytes_ = {};
  }

 private:
  const std::size_t size_;
  std::mutex mutex_;
  std::span<std::byte> bytes_;  // protected by mutex_
};

}  // namespace clonedev
