#include <random>
#include <thread>

#include "bench/native/block_memory.h"
#include "bench/native/hydration_phases.h"
#include "bench/native/measurements.h"

namespace clonedev::bench {
namespace {

constexpr std::uint64_t kPresent = std::uint64_t{64} << 20;
constexpr std::size_t kChunk = 1 << 20;
constexpr auto kForgotten = std::chrono::milliseconds(300);  // The load that was.

void make_present(BenchLun& lun) {
  const BlockMemory data = make_blocks(kChunk);
  for (std::uint64_t at = 0; at < kPresent; at += kChunk) lun.write(at, data.get(), kChunk);
  lun.flush();
}

}  // namespace

nlohmann::json foreground(testing::PluginSite& site, const LunOptions& options, Phases phases) {
  LunOptions quiet = options;
  quiet.settings.emplace_back("hydration=off");
  BenchLun lun(site, "bench", quiet);
  make_present(lun);
  const BlockMemory data = make_blocks(kBlock);
  std::minstd_rand random(1);
  const auto read_for_a_while = [&] {
    std::vector<double> times;
    const auto begin = Clock::now();
    while (seconds_since(begin) < phases.seconds) {
      const std::uint64_t offset = random() % (kPresent / kBlock) * kBlock;
      times.push_back(microseconds_of([&] { lun.read(offset, data.get(), kBlock); }));
    }
    return summary(times);
  };
  HydrationPhases hydration(lun);
  nlohmann::json idle = nlohmann::json::array();
  nlohmann::json busy = nlohmann::json::array();
  HydrationPhases undisturbed(lun);
  for (int i = 0; i < phases.pairs; ++i) {
    idle.push_back(read_for_a_while());
    hydration.hydrating([&] { busy.push_back(read_for_a_while()); });
    std::this_thread::sleep_for(kForgotten);
    undisturbed.hydrating(
        [&] { std::this_thread::sleep_for(std::chrono::duration<double>(phases.seconds / 2)); });
  }
  return {{"idle", idle},
          {"hydrating", busy},
          {"rates", hydration.rates()},
          {"undisturbed_rates", undisturbed.rates()}};
}

}  // namespace clonedev::bench
