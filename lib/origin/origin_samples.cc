#include "origin/origin_samples.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

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

Error no_memory() { return {make_error_code(Errc::unavailable), "origin: no memory for samples"}; }

// XXH3, 128 bits.
class Digest {
 public:
  Digest() {
    if (!state_) throw std::bad_alloc();
    XXH3_128bits_reset(state_.get());
  }
  void add(std::span<const std::byte> bytes) const {
    XXH3_128bits_update(state_.get(), bytes.data(), bytes.size());
  }
  std::string hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, Free> state_{XXH3_createState()};
};

using Reads = std::vector<Result<OriginBytes>>;

// All at once, each into a page; ends when all have ended.
Task<Reads> read_all(Origin& origin, const std::vector<Extent>& extents, const Pages& pages) {
  std::vector<Task<Result<OriginBytes>>> under_way;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const std::span<std::byte> room(pages.get() + i * kBlock, extents[i].length);
    under_way.push_back(origin.read(extents[i].offset, room));
  }
  Reads reads;
  for (auto& one : under_way) {
    auto read = co_await one;
    reads.push_back(std::move(read));
  }
  co_return reads;
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
  if (!pages) co_return fail(no_memory());
  const Reads reads = co_await read_all(origin, extents, pages);
  const Digest digest;
  for (const Result<OriginBytes>& read : reads) {
    if (!read) co_return fail(read.error());
    digest.add(read->bytes);
  }
  co_return digest.hex();
}

Task<Result<BlockHashes>> block_hashes(Origin& origin, const std::vector<Extent>& extents) {
  const Pages pages = allocate_pages(std::max<std::size_t>(extents.size(), 1));
  if (!pages) co_return fail(no_memory());
  const Reads reads = co_await read_all(origin, extents, pages);
  BlockHashes hashes;
  for (const Result<OriginBytes>& read : reads) {
    if (!read && read.error().code != Errc::origin_read) co_return fail(read.error());
    std::optional<std::uint64_t>& hash = hashes.emplace_back();
    if (read) hash = XXH3_64bits(read->bytes.data(), read->bytes.size());
  }
  co_return hashes;
}

}  // namespace clonedev
