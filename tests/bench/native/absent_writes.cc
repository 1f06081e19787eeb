#include <fmt/format.h>

#include "bench/native/block_memory.h"
#include "bench/native/chains.h"
#include "bench/native/measurements.h"
#include "bench/native/places.h"

namespace clonedev::bench {

// Every second place is made present first. Then, turn by turn, clone by clone: a write that is not
// counted, which wakes that clone's threads after the other clones' turns; to an absent block; to a
// present one, which has not been touched for as long.
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
    const std::uint64_t place[] = {2 * pairs + 1, 2 * pair, 2 * pair + 1};
    luns[turn % kinds / 3]->start_write(places[place[turn % 3]], data.get(), kBlock,
                                        std::move(ended));
  });
  std::vector<std::vector<double>> by_kind(kinds);
  for (std::size_t turn = 0; turn < times.microseconds.size(); ++turn) {
    by_kind[turn % kinds].push_back(times.microseconds[turn]);
  }
  nlohmann::json result = nlohmann::json::array();
  for (std::size_t i = 0; i < luns.size(); ++i) {
    result.push_back(
        {{"absent", summary(by_kind[3 * i + 1])}, {"present", summary(by_kind[3 * i + 2])}});
  }
  return result;
}

}  // namespace clonedev::bench
