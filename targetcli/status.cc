#include <fmt/format.h>

#include <memory>

#include "command_error.h"
#include "commands.h"
#include "control_client.h"
#include "human.h"
#include "lun_state.h"

namespace clonectl {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string hydrated_text(const Json& lun) {
  const Json& regions = lun.at("regions");
  const std::uint64_t hydrated = regions.at("hydrated");
  const std::uint64_t total = regions.at("total");
  return fmt::format("{} {}, {} of {} regions of {}, {} in flight", progress_bar(hydrated, total),
                     human_percent(hydrated, total), hydrated, total,
                     human_bytes(lun.at("region_bytes")),
                     regions.at("hydrating").get<std::uint64_t>());
}

std::string blocks_text(const Json& blocks) {
  constexpr std::uint64_t kBlock = 4096;
  std::string text;
  for (const char* state : {"origin", "zero", "destination"}) {
    const std::uint64_t count = blocks.at(state);
    text += fmt::format("{}{} {} ({})", text.empty() ? "" : ", ", human_bytes(count * kBlock),
                        state, human_percent(count, blocks.at("total")));
  }
  return text;
}

std::string background_text(const Json& hydration) {
  const Json& eta = hydration.at("eta_s");
  return fmt::format("{}, {}/s, {}, threshold {}, batch size {}",
                     hydration.at("enabled").get<bool>() ? "on" : "off",
                     human_bytes(hydration.at("rate_bytes_per_s")),
                     eta.is_null() ? "end not known" : human_duration(eta) + " left",
                     hydration.at("threshold").get<std::uint64_t>(),
                     hydration.at("batch").get<std::uint64_t>());
}

std::string errors_text(const Json& errors) {
  std::string text;
  for (const auto& [kind, count] : errors.items()) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", printable(kind),
                        count.get<std::uint64_t>());
  }
  return text;
}

std::string metadata_text(const Json& metadata) {
  return fmt::format(
      "{} of {} units of 4 KiB, {} commits", metadata.at("used_units").get<std::uint64_t>(),
      metadata.at("total_units").get<std::uint64_t>(), metadata.at("commits").get<std::uint64_t>());
}

const char* on_off(const Json& value) { return value.get<bool>() ? "on" : "off"; }

std::string origin_text(const Json& origin) {
  const std::string state = text_of(origin.at("state"));
  return fmt::format("{}, {} read", state.empty() ? "-" : state,
                     human_bytes(origin.at("bytes_read")));
}

void add_unless_empty(Rows& rows, const char* what, const std::string& text) {
  if (!text.empty()) {
    rows.push_back({what, text});
  }
}

std::string human_view(const Json& lun) {
  Rows rows = {{"name", text_of(lun.at("name"))},
               {"state", fmt::format("{}, {}", text_of(lun.at("state")), text_of(lun.at("mode")))}};
  add_unless_empty(rows, "reason", text_of(lun.at("reason")));
  rows.push_back({"size", fmt::format("{} ({} bytes)", human_bytes(lun.at("size_bytes")),
                                      lun.at("size_bytes").get<std::uint64_t>())});
  // A LUN that never opened has nothing else to tell.
  if (lun.at("regions").at("total") != 0) {
    rows.push_back({"hydrated", hydrated_text(lun)});
    rows.push_back({"blocks", blocks_text(lun.at("blocks"))});
    rows.push_back({"hydration", background_text(lun.at("hydration"))});
    add_unless_empty(rows, "held up by", text_of(lun.at("hydration").value("held_up_by", Json())));
    rows.push_back({"origin", origin_text(lun.at("origin"))});
    add_unless_empty(rows, "reading from", text_of(lun.at("origin").value("using", Json())));
    add_unless_empty(rows, "origin error", text_of(lun.at("origin").at("last_error")));
    rows.push_back({"errors", errors_text(lun.at("errors"))});
    rows.push_back({"metadata", metadata_text(lun.at("metadata"))});
    rows.push_back({"write cache", on_off(lun.at("write_cache"))});
    rows.push_back({"discard passdown", on_off(lun.at("discard_passdown"))});
    rows.push_back(
        {"destination I/O",
         fmt::format("{}, by {}",
                     lun.at("destination_direct").get<bool>() ? "direct (O_DIRECT)" : "buffered",
                     text_of(lun.at("io")))});
  }
  return aligned(rows);
}

struct StatusArguments {
  std::string name;
  bool json = false;
  bool dm = false;
};

void show_status(const Context& context, const StatusArguments& arguments) {
  const Json lun = ControlClient(context.socket_path).request({"status", arguments.name});
  if (arguments.json) {
    fmt::print("{}\n", lun.dump());
  } else if (arguments.dm) {
    fmt::print("{}\n", text_of(lun.at("dm")));
  } else {
    fmt::print("{}", human_view(lun));
  }
  if (lun.at("state") == "failed") {
    const std::string reason = text_of(lun.at("reason"));
    throw CommandError(ExitCode::damaged,
                       fmt::format("{}: the LUN has failed: {}", arguments.name,
                                   reason.empty() ? "see the log of tcmu-runner" : reason));
  }
}

}  // namespace

void add_status(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("status", "One LUN in full");
  auto arguments = std::make_shared<StatusArguments>();
  command->add_option("NAME", arguments->name, "The LUN")->required();
  auto* json = command->add_flag("--json", arguments->json, "One JSON object for programs");
  command->add_flag("--dm", arguments->dm, "The status line of dm-clone, field for field")
      ->excludes(json);
  command->callback([&context, arguments] { show_status(context, *arguments); });
}

}  // namespace clonectl
