#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "command_error.h"
#include "commands.h"
#include "control_client.h"
#include "lun_state.h"

namespace clonectl {
namespace {

constexpr std::chrono::milliseconds kPatienceForStatus{30'000};

// The daemon closes the origin itself when the copy is complete, for good: what is left to do is to
// say whether that has happened. Nothing can take it back, so the answer stays true.
void detach(const Context& context, const std::string& name) {
  const Json lun = ControlClient(context.socket_path).request({"status", name}, kPatienceForStatus);
  // Reads that began before the last copy landed may use the origin for a while yet.
  const bool complete = is_complete(lun, name);
  if (complete && lun.at("origin").at("state") != "closed") {
    throw CommandError(
        ExitCode::failed,
        fmt::format("{}: reads that began earlier still use the origin: detach it in "
                    "a moment",
                    name));
  }
  if (complete) {
    fmt::print("{}: the copy is complete and the origin is closed for good: it may go\n", name);
    return;
  }
  const Json& blocks = lun.at("blocks");
  const Json& regions = lun.at("regions");
  const std::uint64_t left =
      regions.at("total").get<std::uint64_t>() - regions.at("hydrated").get<std::uint64_t>();
  const bool hydrating = lun.at("hydration").at("enabled").get<bool>();
  const std::string why = blocks.at("origin") == 0
                              ? "the copy is not completed yet"
                              : fmt::format("{} of {} regions still need the origin", left,
                                            regions.at("total").get<std::uint64_t>());
  throw CommandError(
      ExitCode::failed,
      fmt::format("{}: {}: {}clonectl wait {}, then detach it", name, why,
                  hydrating ? "" : "clonectl message " + name + " enable_hydration and ", name));
}

}  // namespace

void add_detach(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("detach", "Make sure that a LUN needs its origin no more");
  auto name = std::make_shared<std::string>();
  command->add_option("NAME", *name, "The LUN")->required();
  command->callback([&context, name] { detach(context, *name); });
}

}  // namespace clonectl
