// clone_bench: the real handler_clone.so in a stand-in host, measured from within the process.
// tests/bench/run drives it; its README.md tells what is compared with what.

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/native/measurements.h"

namespace {

using namespace clonedev;

struct Choice {
  bench::LunOptions lun;
  bool keep = false;
  std::uint64_t count = 1000;
  std::size_t depth = 32;
  std::size_t readers = 8;
  std::vector<std::string> more_origins;
  bench::Phases phases{0.2, 3};
};

CLI::App* add_measurement(CLI::App& app, Choice& choice, const char* name, const char* what) {
  CLI::App* const command = app.add_subcommand(name, what);
  command->add_option("--origin", choice.lun.origin, "as the key origin= has it")->required();
  command->add_option("--folder", choice.lun.folder, "for destination and metadata")->required();
  command->add_option("--size", choice.lun.size_bytes, "of the LUN, in bytes")->required();
  command->add_flag("--allocated", choice.lun.allocated, "the destination's space, beforehand");
  command->add_option("--set", choice.lun.settings, "another key: KEY=VALUE; may repeat");
  return command;
}

CLI::App* add_counted(CLI::App& app, Choice& choice, const char* name, const char* what) {
  CLI::App* const command = add_measurement(app, choice, name, what);
  command->add_option("--count", choice.count, "how many");
  return command;
}

CLI::App* add_phased(CLI::App& app, Choice& choice, const char* name, const char* what) {
  CLI::App* const command = add_measurement(app, choice, name, what);
  command->add_option("--phase", choice.phases.seconds, "seconds of one phase");
  command->add_option("--pairs", choice.phases.pairs, "of phases");
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Measures handler_clone.so in a stand-in host; prints JSON, times in microseconds"};
  std::string plugin = HANDLER_CLONE_SO;
  app.add_option("--plugin", plugin, "another build's handler_clone.so");
  app.require_subcommand(1);
  Choice choice;
  CLI::App* const hydrate =
      add_measurement(app, choice, "hydrate", "a new clone from open to complete and flushed");
  hydrate->add_flag("--keep", choice.keep, "leave the destination in FOLDER/hydrated");
  CLI::App* const absent_reads =
      add_counted(app, choice, "absent-reads", "4 KiB misses, in turns with the bare NBD origin");
  CLI::App* const many_reads = add_counted(app, choice, "many-reads", "4 KiB misses in parallel");
  CLI::App* const many_writes =
      add_counted(app, choice, "many-writes", "4 KiB writes to absent blocks in parallel");
  for (CLI::App* const many : {many_reads, many_writes}) {
    many->add_option("--depth", choice.depth, "how many in flight");
  }
  CLI::App* const absent_writes =
      add_counted(app, choice, "absent-writes", "4 KiB writes to absent and to present blocks");
  absent_writes->add_option("--more-origins", choice.more_origins, "a clone of each, in turns");
  CLI::App* const equal_misses =
      add_counted(app, choice, "equal-misses", "several reads of one absent block at once");
  equal_misses->add_option("--readers", choice.readers, "how many");
  CLI::App* const foreground =
      add_phased(app, choice, "foreground", "4 KiB reads with and without hydration");
  CLI::App* const flushes =
      add_phased(app, choice, "flushes", "FLUSH while hydrating, in turns with fdatasync");
  CLI11_PARSE(app, argc, argv);

  testing::PluginSite site(plugin, "/dev/shm");
  if (site.handler() == nullptr) return 1;
  nlohmann::json result;
  if (hydrate->parsed()) result = bench::hydrate(site, choice.lun, choice.keep);
  if (absent_reads->parsed()) result = bench::absent_reads(site, choice.lun, choice.count);
  if (many_reads->parsed())
    result = bench::many_reads(site, choice.lun, choice.count, choice.depth);
  if (many_writes->parsed())
    result = bench::many_writes(site, choice.lun, choice.count, choice.depth);
  if (absent_writes->parsed()) {
    result = bench::absent_writes(site, choice.lun, choice.more_origins, choice.count);
  }
  if (equal_misses->parsed()) {
    result = bench::equal_misses(site, choice.lun, choice.count, choice.readers);
  }
  if (foreground->parsed()) result = bench::foreground(site, choice.lun, choice.phases);
  if (flushes->parsed()) result = bench::flushes(site, choice.lun, choice.phases);
  fmt::print("{}\n", result.dump());
  return 0;
}
