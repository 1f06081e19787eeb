// Where a measurement goes: every 64 KiB cluster of the disk once, in a scattered order, so that
// nothing profits from a neighbour.
#pragma once

#include <cstdint>

namespace clonedev::bench {

class Places {
 public:
  explicit Places(std::uint64_t size_bytes) : clusters_(size_bytes / kCluster) {}

  std::uint64_t count() const { return clusters_; }
  // Byte offset of the `turn`-th place. 7919 is prime: no cluster comes twice in count() turns.
  std::uint64_t operator[](std::uint64_t turn) const { return turn * 7919 % clusters_ * kCluster; }

 private:
  static constexpr std::uint64_t kCluster = 65536;
  std::uint64_t clusters_;
};

}  // namespace clonedev::bench
