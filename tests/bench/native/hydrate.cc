#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "bench/native/measurements.h"
#include "bench/native/process_use.h"
#include "bench/native/timing.h"

namespace clonedev::bench {
namespace {

// The most anonymous memory at any moment, by looking every few milliseconds. Not VmHWM: it counts
// the pages of the live map, which are the tmpfs's.
class MemoryWatch {
 public:
  MemoryWatch() : thread_([this] { look(); }) {}
  std::uint64_t peak() {
    ended_ = true;
    thread_.join();
    return peak_;
  }

 private:
  void look() {
    while (!ended_) {
      peak_ = std::max(peak_, memory_bytes("RssAnon"));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  std::atomic<bool> ended_ = false;
  std::uint64_t peak_ = 0;
  std::thread thread_;
};

}  // namespace

nlohmann::json hydrate(testing::PluginSite& site, const LunOptions& options, bool keep) {
  const std::uint64_t memory_before = memory_bytes("RssAnon");
  const double cpu_before = cpu_seconds();
  MemoryWatch memory;
  const auto begin = Clock::now();
  BenchLun lun(site, "bench", options);
  const double open_seconds = seconds_since(begin);
  lun.wait_until_complete();
  lun.flush();
  const double seconds = seconds_since(begin);
  const nlohmann::json status = lun.status();
  nlohmann::json result;
  result["seconds"] = seconds;
  result["open_seconds"] = open_seconds;
  result["cpu_seconds"] = cpu_seconds() - cpu_before;
  result["memory_bytes"] = memory.peak() - memory_before;
  result["status"] = status;
  if (keep) std::filesystem::rename(lun.destination(), options.folder + "/hydrated");
  return result;
}

}  // namespace clonedev::bench
