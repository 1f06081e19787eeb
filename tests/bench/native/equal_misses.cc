#include <algorithm>

#include "bench/native/block_memory.h"
#include "bench/native/chains.h"
#include "bench/native/measurements.h"
#include "bench/native/places.h"

namespace clonedev::bench {

nlohmann::json equal_misses(testing::PluginSite& site, const LunOptions& options,
                            std::uint64_t count, std::size_t readers) {
  LunOptions quiet = options;
  quiet.settings.emplace_back("hydration=off");
  BenchLun lun(site, "bench", quiet);
  const Places places(options.size_bytes);
  const BlockMemory data = make_blocks(kBlock);
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t place = 0; place < std::min(count, places.count()); ++place) {
    // Not where the samples of the origin are taken: at the beginning of large pieces.
    offsets.push_back(places[place] + 5 * kBlock);
    Chains::run(readers, readers, [&](std::uint64_t, auto ended) {
      lun.start_read(offsets.back(), data.get(), kBlock, std::move(ended));
    });
  }
  return {{"offsets", offsets}, {"length", kBlock}};
}

}  // namespace clonedev::bench
