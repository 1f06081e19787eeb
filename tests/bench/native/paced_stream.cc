#include "bench/native/paced_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include "bench/native/bench_lun.h"
#include "bench/native/block_memory.h"

namespace clonedev::bench {

PacedStream::PacedStream(std::string path, std::uint64_t size_bytes, bool direct)
    : path_(std::move(path)),
      size_bytes_(size_bytes),
      fd_(::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | (direct ? O_DIRECT : 0),
                 0600)) {
  constexpr int kWriters = 4;
  if (fd_ < 0 || ::ftruncate(fd_, static_cast<off_t>(size_bytes_)) != 0) {
    give_up(path_ + ": cannot be made");
  }
  for (int i = 0; i < kWriters; ++i) threads_.emplace_back([this] { write_chunks(); });
}

PacedStream::~PacedStream() {
  ended_ = true;
  for (std::thread& thread : threads_) thread.join();
  ::close(fd_);
  ::unlink(path_.c_str());
}

void PacedStream::set_rate(double bytes_per_second) {
  const std::lock_guard lock(mutex_);
  rate_ = bytes_per_second;
  due_ = Clock::now();
}

bool PacedStream::next_chunk(std::uint64_t& offset, Clock::time_point& at) {
  const std::lock_guard lock(mutex_);
  if (rate_ == 0) return false;
  offset = std::exchange(offset_, (offset_ + kChunk) % size_bytes_);
  at = due_;
  due_ +=
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(kChunk / rate_));
  return true;
}

void PacedStream::write_chunks() {
  const BlockMemory data = make_blocks(kChunk);
  while (!ended_) {
    std::uint64_t offset = 0;
    Clock::time_point at;
    if (!next_chunk(offset, at)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    std::this_thread::sleep_until(at);
    if (::pwrite(fd_, data.get(), kChunk, static_cast<off_t>(offset)) != kChunk) {
      give_up(path_ + ": cannot be written");
    }
    written_ += kChunk;
  }
}

}  // namespace clonedev::bench
