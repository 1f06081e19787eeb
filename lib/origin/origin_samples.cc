#include "origin/origin_samples.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace clonedev {
namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kSamples = 16;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Pages = std::unique_ptr<std::byte, Free>;

Pages allocate_pages(std::size_t count) {
  return Pages(static_cast<std::byte*>(std::aligned_alloc(kBlock, count * kBlock)));
}

std::string hex_digest(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::vector<Extent> sample_extents(std::uint64_t size) {
  const std::uint64_t blocks = size / kBlock + (size % kBlock != 0);
  const std::uint64_t count = std::min(blocks, kSamples);
  std::vector<Extent> extents;
  for (std::uint64_t i = 0; i < count; ++i) {
    // (blocks - 1) * i would overflow for absurd sizes only: a size has at most 63 bits.
    const std::uint64_t block = count == 1 ? 0 : (blocks - 1) * i / (count - 1);
    extents.push_back({block * kBlock, std::min(kBlock, size - block * kBlock)});
  }
  return extents;
}

Task<Result<std::string>> sample_digest(Origin& origin) {
  const std::vector<Extent> extents = sample_extents(origin.size());
  const Pages pages = allocate_pages(std::max<std::size_t>(extents.size(), 1));
  if (!pages) co_return fail(Errc::unavailable, "origin: no memory for samples");
  std::vector<Task<Result<>>> reads;
  std::size_t length = 0;
  for (const Extent& extent : extents) {
    const std::span<std::byte> room(pages.get() + length, extent.length);
    reads.push_back(origin.read(extent.offset, room));
    length += extent.length;  // Only the last sample can be short, so every one is page aligned.
  }
  Result<> outcome;
  for (auto& read : reads) {
    auto done = co_await read;
    if (!done && outcome) outcome = std::move(done);
  }
  if (!outcome) co_return fail(outcome.error());
  co_return hex_digest({pages.get(), length});
}

Task<Result<BlockHashes>> block_hashes(Origin& origin, const std::vector<Extent>& extents) {
  const Pages pages = allocate_pages(std::max<std::size_t>(extents.size(), 1));
  if (!pages) co_return fail(Errc::unavailable, "origin: no memory for samples");
  const auto room = [&](std::size_t i) {
    return std::span<std::byte>(pages.get() + i * kBlock, extents[i].length);
  };
  std::vector<Task<Result<>>> reads;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    reads.push_back(origin.read(extents[i].offset, room(i)));
  }
  BlockHashes hashes(extents.size());
  Result<> outcome;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    Task<Result<>>& read = reads[i];
    auto done = co_await read;
    if (done) {
      hashes[i] = XXH3_64bits(room(i).data(), room(i).size());
    } else if (done.error().code != Errc::origin_read && outcome) {
      outcome = std::move(done);
    }
  }
  if (!outcome) co_return fail(outcome.error());
  co_return hashes;
}

}  // namespace clonedev
