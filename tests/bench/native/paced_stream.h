// What hydration does to a disk, without it: ascending writes of 1 MiB into a sparse file, a few at
// a time, in the cache mode of a destination, at a given rate. Threads of its own write from
// construction to destruction.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace clonedev::bench {

class PacedStream {
 public:
  PacedStream(std::string path, std::uint64_t size_bytes, bool direct);
  ~PacedStream();
  PacedStream(const PacedStream&) = delete;
  PacedStream& operator=(const PacedStream&) = delete;

  // Bytes a second from now on; 0: a pause.
  void set_rate(double bytes_per_second);
  std::uint64_t written_bytes() const { return written_; }
  int fd() const { return fd_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kChunk = 1 << 20;

  void write_chunks();
  // Where the next chunk goes, and when; false: not now.
  bool next_chunk(std::uint64_t& offset, Clock::time_point& at);

  const std::string path_;
  const std::uint64_t size_bytes_;
  const int fd_;
  std::atomic<std::uint64_t> written_ = 0;
  std::atomic<bool> ended_ = false;
  std::mutex mutex_;  // For the next three.
  double rate_ = 0;
  std::uint64_t offset_ = 0;
  Clock::time_point due_;
  std::vector<std::thread> threads_;
};

}  // namespace clonedev::bench
