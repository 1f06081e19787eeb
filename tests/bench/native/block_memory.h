// Memory for I/O, aligned to blocks.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>

namespace clonedev::bench {

constexpr std::uint64_t kBlock = 4096;

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};
using BlockMemory = std::unique_ptr<void, FreeMemory>;

inline BlockMemory make_blocks(std::size_t bytes) {
  BlockMemory memory(std::aligned_alloc(kBlock, bytes));
  std::memset(memory.get(), 0x5a, bytes);
  return memory;
}

}  // namespace clonedev::bench
