// The measurements, each a subcommand of clone_bench. Each returns one JSON object.
#pragma once

#include "bench/native/bench_lun.h"

namespace clonedev::bench {

// A new clone from open to complete and flushed. Keeps the destination as FOLDER/hydrated if asked.
nlohmann::json hydrate(testing::PluginSite& site, const LunOptions& options, bool keep);

// 4 KiB reads of absent blocks one at a time, in turns with the same from the bare NBD server.
nlohmann::json absent_reads(testing::PluginSite& site, const LunOptions& options,
                            std::uint64_t count);

// 4 KiB reads of absent blocks, `depth` in flight.
nlohmann::json many_reads(testing::PluginSite& site, const LunOptions& options, std::uint64_t count,
                          std::size_t depth);
// 4 KiB writes to absent blocks likewise.
nlohmann::json many_writes(testing::PluginSite& site, const LunOptions& options,
                           std::uint64_t count, std::size_t depth);

// Aligned 4 KiB writes one at a time, in turns: to an absent block of a clone of each origin, then
// to the same block, which is on the destination now.
nlohmann::json absent_writes(testing::PluginSite& site, const LunOptions& options,
                             const std::vector<std::string>& more_origins, std::uint64_t count);

// `readers` reads of one absent block at once, for `count` blocks; the server counts its own.
nlohmann::json equal_misses(testing::PluginSite& site, const LunOptions& options,
                            std::uint64_t count, std::size_t readers);

struct Phases {
  double seconds = 0;  // Of one.
  int pairs = 0;       // Of one phase without and one with hydration.
};

// 4 KiB reads of blocks that are on the destination, one at a time, with and without hydration; and
// hydration without them.
nlohmann::json foreground(testing::PluginSite& site, const LunOptions& options, Phases phases);

// FLUSH every few milliseconds while hydrating, in turns with fdatasync of another file that takes
// the same stream of writes.
nlohmann::json flushes(testing::PluginSite& site, const LunOptions& options, Phases phases);

}  // namespace clonedev::bench
