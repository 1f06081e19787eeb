#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "control_client.h"
#include "human.h"
#include "lun_state.h"

namespace clonectl {
namespace {

std::vector<std::string> row_of(const Json& lun) {
  const Json& regions = lun.at("regions");
  const std::uint64_t total = regions.at("total");
  return {text_of(lun.at("name")), text_of(lun.at("state")), text_of(lun.at("mode")),
          human_bytes(lun.at("size_bytes")),
          // A LUN that never opened has no regions; 100 % would be a lie.
          total == 0 ? "-" : human_percent(regions.at("hydrated"), total),
          text_of(lun.at("origin").at("state")), text_of(lun.value("reason", Json()))};
}

std::string table_of(const Json& luns) {
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "STATE", "MODE", "SIZE", "HYDRATED", "ORIGIN", "REASON"}};
  for (const Json& lun : luns) {
    rows.push_back(row_of(lun));
    for (std::string& cell : rows.back()) {
      cell = cell.empty() ? "-" : cell;
    }
  }
  return aligned(rows);
}

}  // namespace

void add_list(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("list", "Every LUN of this host, also those that failed");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One JSON array for programs");
  command->callback([&context, json] {
    const Json luns = ControlClient(context.socket_path).request({"list"});
    fmt::print("{}", *json ? luns.dump() + "\n" : table_of(luns));
  });
}

}  // namespace clonectl
