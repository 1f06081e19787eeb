#include "io/iovecs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace clonedev {
namespace {

std::vector<std::byte> random_bytes(std::mt19937_64& random, std::size_t length) {
  std::vector<std::byte> bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Cuts memory into pieces, empty ones among them.
std::vector<iovec> random_cut(std::mt19937_64& random, std::span<std::byte> memory) {
  std::vector<iovec> list;
  while (!memory.empty()) {
    const std::size_t length = std::min(memory.size(), random() % 40);
    list.push_back(to_iovec(memory.first(length)));
    memory = memory.subspan(length);
  }
  return list;
}

TEST(Iovecs, slice_copy_and_zero_do_what_they_do_on_flat_memory) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::vector<std::byte> memory = random_bytes(random, 1 + random() % 500);
    std::vector<std::byte> flat = memory;
    const std::vector<iovec> list = random_cut(random, memory);
    EXPECT_EQ(iov_length(list), memory.size());

    const std::size_t offset = random() % memory.size();
    const std::size_t length = random() % (memory.size() - offset + 1);
    const auto first = flat.begin() + static_cast<std::ptrdiff_t>(offset);
    const auto end = first + static_cast<std::ptrdiff_t>(length);
    const std::vector<iovec> slice = iov_slice(list, offset, length);
    EXPECT_EQ(iov_length(slice), length);

    std::vector<std::byte> out(length);
    iov_copy_out(slice, out);
    EXPECT_TRUE(std::equal(first, end, out.begin()));

    const std::vector<std::byte> fresh = random_bytes(random, length);
    std::copy(fresh.begin(), fresh.end(), first);
    iov_copy_in(fresh, slice);
    EXPECT_EQ(memory, flat);

    std::fill(first, end, std::byte{0});
    iov_zero(slice);
    EXPECT_EQ(memory, flat);
  }
}

TEST(Iovecs, slice_of_nothing_is_nothing) {
  EXPECT_TRUE(iov_slice({}, 0, 0).empty());
  std::byte byte{};
  const std::vector<iovec> list{{&byte, 1}};
  EXPECT_TRUE(iov_slice(list, 1, 0).empty());
  EXPECT_EQ(iov_length({}), 0u);
  EXPECT_TRUE(iov_aligned({}, 512));
}

TEST(Iovecs, are_aligned_when_every_base_and_every_length_is) {
  alignas(4096) static std::byte memory[8192];
  const auto aligned = [](std::size_t offset, std::size_t length) {
    const std::vector<iovec> list{{memory, 4096}, {memory + offset, length}};
    return iov_aligned(list, 512);
  };
  EXPECT_TRUE(aligned(512, 1024));
  EXPECT_TRUE(aligned(4096, 4096));
  EXPECT_FALSE(aligned(1, 512));
  EXPECT_FALSE(aligned(256, 512));
  EXPECT_FALSE(aligned(512, 511));
  EXPECT_FALSE(aligned(512, 256));
}

}  // namespace
}  // namespace clonedev
