#include <unistd.h>

#include <thread>

#include "bench/native/hydration_phases.h"
#include "bench/native/measurements.h"
#include "bench/native/paced_stream.h"

namespace clonedev::bench {
namespace {

template <class Flush>
std::vector<double> flush_for(double seconds, Flush&& flush) {
  constexpr auto kPause = std::chrono::milliseconds(10);
  std::vector<double> times;
  const auto begin = Clock::now();
  while (seconds_since(begin) < seconds) {
    std::this_thread::sleep_for(kPause);
    times.push_back(microseconds_of(flush));
  }
  return times;
}

}  // namespace

nlohmann::json flushes(testing::PluginSite& site, const LunOptions& options, Phases phases) {
  LunOptions quiet = options;
  quiet.settings.emplace_back("hydration=off");
  BenchLun lun(site, "bench", quiet);
  const bool direct = lun.status()["destination_direct"];
  PacedStream stream(options.folder + "/stream", options.size_bytes, direct);
  HydrationPhases hydration(lun);
  nlohmann::json ours = nlohmann::json::array();
  nlohmann::json theirs = nlohmann::json::array();
  std::vector<double> stream_rates;
  for (int i = 0; i < phases.pairs; ++i) {
    hydration.hydrating(
        [&] { ours.push_back(summary(flush_for(phases.seconds, [&] { lun.flush(); }))); });
    const std::uint64_t before = stream.written_bytes();
    const auto begin = Clock::now();
    stream.set_rate(hydration.rates().back());
    theirs.push_back(summary(flush_for(phases.seconds, [&] {
      if (::fdatasync(stream.fd()) != 0) give_up("fdatasync failed");
    })));
    stream_rates.push_back(static_cast<double>(stream.written_bytes() - before) /
                           seconds_since(begin));
    stream.set_rate(0);
  }
  return {{"flush", ours},
          {"fdatasync", theirs},
          {"rates", hydration.rates()},
          {"stream_rates", stream_rates},
          {"direct", direct}};
}

}  // namespace clonedev::bench
