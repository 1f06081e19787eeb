#include <fmt/format.h>

#include "bench/native/block_memory.h"
#include "bench/native/chains.h"
#include "bench/native/measurements.h"
#include "bench/native/places.h"

namespace clonedev::bench {
namespace {

enum Write : std::size_t { kToAbsent, kToPresent, kToWake };

// The kind of the `step`-th write, of three, that a clone is given in a turn.
Write kind_of(std::uint64_t step, std::uint64_t turn) {
  if (step == 0) return kToWake;
  return step % 2 == turn % 2 ? kToAbsent : kToPresent;
}

}  // namespace

// Every second place is made present first. Then, turn by turn, clone by clone: a write that is not
// counted, which wakes that clone's threads after the other clones' turns; to an absent block and
// to a present one, which has not been touched for as long. Which of these comes first changes from
// turn to turn, since the later one finds more in the processor's caches.
nlohmann::json absent_writes(testing::PluginSite& site, const LunOptions& options,
                             const std::vector<std::string>& more_origins, std::uint64_t count) {
  std::vector<std::string> origins = more_origins;
  origins.insert(origins.begin(), options.origin);
  std::vector<std::unique_ptr<BenchLun>> luns;
  for (const std::string& origin : origins) {
    LunOptions own = options;
    own.origin = origin;
    own.settings.emplace_back("hydration=off");
    luns.push_back(std::make_unique<BenchLun>(site, fmt::format("bench{}", luns.size()), own));
  }
  const Places places(options.size_bytes);
  const BlockMemory data = make_blocks(kBlock);
  const std::uint64_t pairs = std::min(count, places.count() / 2 - 1);
  for (const auto& lun : luns) {
    for (std::uint64_t i = 0; i <= pairs; ++i) lun->write(places[2 * i + 1], data.get(), kBlock);
  }
  const std::size_t kinds = 3 * luns.size();
  const auto times = Chains::run(pairs * kinds, 1, [&](std::uint64_t turn, auto ended) {
    const std::uint64_t pair = turn / kinds;
    const std::uint64_t place[] = {2 * pair, 2 * pair + 1, 2 * pairs + 1};
    luns[turn % kinds / 3]->start_write(places[place[kind_of(turn % 3, pair)]], data.get(), kBlock,
                                        std::move(ended));
  });
  std::vector<std::vector<double>> by_kind(kinds);
  for (std::size_t turn = 0; turn < times.microseconds.size(); ++turn) {
    const std::size_t lun = turn % kinds / 3;
    by_kind[3 * lun + kind_of(turn % 3, turn / kinds)].push_back(times.microseconds[turn]);
  }
  nlohmann::json result = nlohmann::json::array();
  for (std::size_t i = 0; i < luns.size(); ++i) {
    result.push_back({{"absent", summary(by_kind[3 * i + kToAbsent])},
                      {"present", summary(by_kind[3 * i + kToPresent])}});
  }
  return result;
}

}  // namespace clonedev::bench
