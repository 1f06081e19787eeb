#include <algorithm>

#include "bench/native/block_memory.h"
#include "bench/native/chains.h"
#include "bench/native/measurements.h"

namespace clonedev::bench {
namespace {

// The first 4 KiB of each 64 KiB in order: the places of the peer's qemu-img bench -S 65536.
constexpr std::uint64_t kStep = 65536;

using Start = void (BenchLun::*)(std::uint64_t offset, void* data, std::size_t length,
                                 std::function<void()> ended);

nlohmann::json many(testing::PluginSite& site, const LunOptions& options, std::uint64_t count,
                    std::size_t depth, Start start) {
  LunOptions quiet = options;
  quiet.settings.emplace_back("hydration=off");
  BenchLun lun(site, "bench", quiet);
  count = std::min(count, options.size_bytes / kStep);
  const BlockMemory data = make_blocks(kBlock);  // One for all: nobody looks at it.
  const auto times = Chains::run(count, depth, [&](std::uint64_t turn, auto ended) {
    (lun.*start)(turn * kStep, data.get(), kBlock, std::move(ended));
  });
  return {{"seconds", times.seconds}, {"iops", static_cast<double>(count) / times.seconds}};
}

}  // namespace

nlohmann::json many_reads(testing::PluginSite& site, const LunOptions& options, std::uint64_t count,
                          std::size_t depth) {
  return many(site, options, count, depth, &BenchLun::start_read);
}

nlohmann::json many_writes(testing::PluginSite& site, const LunOptions& options,
                           std::uint64_t count, std::size_t depth) {
  return many(site, options, count, depth, &BenchLun::start_write);
}

}  // namespace clonedev::bench
