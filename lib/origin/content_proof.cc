#include "origin/content_proof.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <random>
#include <set>

#include "origin/origin_samples.h"

namespace clonedev {
namespace {

constexpr std::uint64_t kPlaceBytes = 4096;
constexpr std::size_t kPlaces = 256;
// So few places that can be read say nothing about a disk.
constexpr std::size_t kFewest = 16;

// First and last block among them, ascending.
std::vector<Extent> places_by_chance(std::uint64_t size, std::uint64_t seed) {
  const std::uint64_t blocks = size / kPlaceBytes + (size % kPlaceBytes != 0);
  std::set<std::uint64_t> chosen{0, blocks - 1};
  if (blocks <= kPlaces) {
    for (std::uint64_t block = 0; block < blocks; ++block) chosen.insert(block);
  }
  std::mt19937_64 chance(seed);
  std::uniform_int_distribution<std::uint64_t> any(0, blocks - 1);
  while (chosen.size() < std::min<std::uint64_t>(blocks, kPlaces)) chosen.insert(any(chance));
  std::vector<Extent> places;
  for (const std::uint64_t block : chosen) {
    const std::uint64_t offset = block * kPlaceBytes;
    places.push_back({offset, std::min(kPlaceBytes, size - offset)});
  }
  return places;
}

std::string samples_in(const std::string& identity) {
  const std::string word = ";samples=";
  const std::size_t at = identity.find(word);
  if (at == std::string::npos) return {};
  return identity.substr(at + word.size(), identity.find(';', at + 1) - at - word.size());
}

tl::unexpected<Error> something_else() {
  return fail(Errc::foreign, "its content is not the origin's");
}

}  // namespace

Task<Result<>> ContentProof::learn(Origin& origin) {
  if (!places_.empty() || origin.size() == 0) co_return Result<>();
  const std::vector<Extent> extents = places_by_chance(origin.size(), seed_);
  auto hashes = co_await block_hashes(origin, extents);
  if (!hashes) co_return fail(hashes.error());
  std::vector<Place> places;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    if ((*hashes)[i]) places.push_back({extents[i], (*hashes)[i]});
  }
  if (places.size() >= std::min(extents.size(), kFewest)) places_ = std::move(places);
  co_return Result<>();
}

Task<Result<>> ContentProof::judge(Origin& alternate, std::uint64_t size,
                                   const std::string& identity, const std::string& found) {
  if (alternate.size() != size) {
    co_return fail(Errc::foreign,
                   fmt::format("it has {} bytes, the origin {}", alternate.size(), size));
  }
  if (!places_.empty()) co_return co_await compare_places(alternate);
  if (found == identity) co_return Result<>();
  const std::string samples = samples_in(identity);
  if (samples.empty()) {
    co_return fail(Errc::unavailable,
                   "it cannot be compared with the origin, which was not there since the LUN was "
                   "opened");
  }
  auto digest = co_await sample_digest(alternate);
  if (!digest) co_return fail(digest.error());
  if (*digest != samples) co_return something_else();
  co_return Result<>();
}

Task<Result<>> ContentProof::compare_places(Origin& alternate) {
  std::vector<Extent> extents;
  for (const Place& place : places_) extents.push_back(place.extent);
  auto hashes = co_await block_hashes(alternate, extents);
  if (!hashes) co_return fail(hashes.error());
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const auto& hash = (*hashes)[i];
    if (!hash) {
      co_return fail(Errc::unavailable, fmt::format("it cannot be read at {}, so it cannot be "
                                                    "compared with the origin",
                                                    extents[i].offset));
    }
    if (hash != places_[i].hash) co_return something_else();
  }
  co_return Result<>();
}

}  // namespace clonedev
