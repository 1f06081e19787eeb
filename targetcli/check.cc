#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.h"
#include "deep.h"
#include "human.h"
#include "metadata/metadata_check.h"
#include "metadata_file.h"
#include "present.h"

namespace clonectl {
namespace {

using clonedev::Finding;
using clonedev::HostIds;
using clonedev::MetadataReport;
using clonedev::Superblock;
using Json = nlohmann::ordered_json;

struct CheckArguments {
  std::string meta;
  std::string origin;  // Empty: not asked.
  std::string dest;
  bool deep = false;  // Then both are given.
  bool json = false;
};

// Whether what was named is what the clone was made with; nothing when it was not named.
using Match = std::optional<bool>;

struct Checked {
  MetadataReport report;
  Match origin;
  Match destination;
  std::optional<clonedev::Verification> deep;
};

Match note_mismatch(MetadataReport& report, const std::string& mismatch) {
  if (mismatch.empty()) return true;
  report.findings.push_back({Finding::Weight::damage, mismatch});
  return false;
}

// Whether a difference can only be damage: what was written since it was copied is known for sure.
bool marks_are_certain(const Superblock& superblock) {
  return superblock.clean && !superblock.complete;
}

void note_differences(MetadataReport& report, const clonedev::Verification& found) {
  using Weight = Finding::Weight;
  const Superblock& superblock = *report.superblock;
  const Weight weight = marks_are_certain(superblock) ? Weight::damage : Weight::note;
  report.findings.push_back(
      {Weight::note, fmt::format("compared with the origin: {} bytes are equal, {} differ",
                                 found.verified_bytes, found.mismatch_bytes)});
  if (superblock.complete) {
    report.findings.push_back({Weight::note,
                               "the copy is complete: what differs was written by users, or is "
                               "damaged; that is not told apart any more"});
  } else if (!superblock.clean) {
    report.findings.push_back({Weight::note,
                               "not cleanly detached: what was written since it was copied is not "
                               "known for sure, so what differs may be a user's"});
  }
  for (const clonedev::Extent& extent : found.mismatches) {
    report.findings.push_back({weight, fmt::format("bytes {}..{} differ from the origin",
                                                   extent.offset, extent.end() - 1)});
  }
  if (found.mismatch_ranges > found.mismatches.size()) {
    report.findings.push_back(
        {weight,
         fmt::format("and {} more ranges", found.mismatch_ranges - found.mismatches.size())});
  }
}

clonedev::Verification compare_all(MetadataFile& meta, const Superblock& superblock,
                                   const CheckArguments& arguments) {
  using State = clonedev::Verification::State;
  auto found = compare_with_origin(meta, superblock, arguments.origin, arguments.dest);
  if (found.unreadable_bytes == 0 &&
      (found.state == State::equal || found.state == State::different))
    return found;
  throw CommandError(
      ExitCode::failed,
      fmt::format("{}: not all could be compared with the origin, {} bytes could not "
                  "be read: {}",
                  arguments.meta, found.unreadable_bytes, found.last_error));
}

Checked check(const CheckArguments& arguments) {
  MetadataFile meta(open_metadata(arguments.meta, Access::read));
  Checked checked;
  checked.report =
      value_or_give_up(meta.run([&] { return clonedev::check_metadata(meta.device()); }));
  MetadataReport& report = checked.report;
  if (!report.superblock) return checked;
  if (!arguments.dest.empty()) {
    checked.destination = note_mismatch(
        report, destination_mismatch(*report.superblock, present_destination(arguments.dest)));
  }
  if (!arguments.origin.empty()) {
    checked.origin = note_mismatch(
        report,
        origin_mismatch(*report.superblock, present_origin(arguments.origin, meta.reactor())));
  }
  if (arguments.deep && !report.damaged()) {
    checked.deep = compare_all(meta, *report.superblock, arguments);
    note_differences(report, *checked.deep);
  }
  return checked;
}

HostIds this_host() { return clonedev::read_host_ids().value_or(HostIds{}); }

const char* weight_word(const Finding& finding) {
  return finding.weight == Finding::Weight::note ? "note" : "damage";
}

std::string state_text(const Superblock& superblock) {
  std::string text = clonedev::attachment_text(superblock, this_host());
  if (superblock.complete) text += "; complete: the origin is not needed any more";
  if (superblock.needs_check) text += "; needs_check";
  return text;
}

std::string blocks_text(const MetadataReport& report) {
  std::string text;
  std::uint64_t known = 0;
  for (std::size_t state = 0; state < report.blocks.size(); ++state) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", report.blocks[state],
                        clonedev::kStateNames[state]);
    known += report.blocks[state];
  }
  const std::uint64_t all = clonedev::TreeShape(*report.superblock).geometry().blocks();
  if (known < all) text += fmt::format(", {} not known", all - known);
  return text + " (of 4 KiB)";
}

std::string match_text(Match match) {
  return !match ? "" : *match ? ": this is the one" : ": NOT this one";
}

std::string view_of_findings(const Checked& checked) {
  const MetadataReport& report = checked.report;
  std::string text;
  if (report.superblock) {
    const Superblock& superblock = *report.superblock;
    text = aligned(
        {{"clone", printable(superblock.name) + ", " + clonedev::id_text(superblock.uuid)},
         {"size", fmt::format("{} ({} bytes), regions of {}", human_bytes(superblock.size_bytes),
                              superblock.size_bytes, human_bytes(superblock.region_size))},
         {"state", state_text(superblock)},
         {"blocks", blocks_text(report)},
         {"units", fmt::format("{} of {} in use, commit {}", report.used_units, superblock.units,
                               superblock.sequence)},
         {"origin", fmt::format("{}, {} bytes{}", printable(superblock.origin_identity),
                                superblock.origin_size, match_text(checked.origin))},
         {"destination",
          printable(superblock.destination_identity) + match_text(checked.destination)}});
  }
  for (const Finding& finding : report.findings) {
    text += fmt::format("{}: {}\n", weight_word(finding), printable(finding.text));
  }
  return text;
}

Json match_json(Match match) { return match ? Json(*match) : Json(nullptr); }

void add_superblock(Json& json, const Checked& checked) {
  const Superblock& superblock = *checked.report.superblock;
  json["name"] = superblock.name;
  json["uuid"] = clonedev::id_text(superblock.uuid);
  json["size_bytes"] = superblock.size_bytes;
  json["region_bytes"] = superblock.region_size;
  json["sequence"] = superblock.sequence;
  json["clean"] = superblock.clean;
  json["complete"] = superblock.complete;
  json["needs_check"] = superblock.needs_check;
  json["reason"] = superblock.reason.empty() ? Json(nullptr) : Json(superblock.reason);
  json["attachment"] = clonedev::attachment_text(superblock, this_host());
  for (std::size_t state = 0; state < checked.report.blocks.size(); ++state) {
    json["blocks"][std::string(clonedev::kStateNames[state])] = checked.report.blocks[state];
  }
  json["units"] = {{"used", checked.report.used_units}, {"total", superblock.units}};
  json["origin"] = {{"identity", superblock.origin_identity},
                    {"size_bytes", superblock.origin_size},
                    {"matches", match_json(checked.origin)}};
  json["destination"] = {{"identity", superblock.destination_identity},
                         {"matches", match_json(checked.destination)}};
}

std::string json_view(const Checked& checked) {
  Json json = {{"schema", 1}, {"damaged", checked.report.damaged()}};
  if (checked.report.superblock) add_superblock(json, checked);
  json["lost"] = Json::array();
  for (const clonedev::Extent& extent : checked.report.lost) {
    json["lost"].push_back({{"offset", extent.offset}, {"length", extent.length}});
  }
  json["deep"] =
      checked.deep ? Json::parse(clonedev::verification_json(*checked.deep)) : Json(nullptr);
  json["findings"] = Json::array();
  for (const Finding& finding : checked.report.findings) {
    json["findings"].push_back({{"weight", weight_word(finding)}, {"text", finding.text}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

void show_check(const CheckArguments& arguments) {
  const Checked checked = check(arguments);
  fmt::print("{}", arguments.json ? json_view(checked) : view_of_findings(checked));
  if (!checked.report.damaged()) return;
  throw CommandError(ExitCode::damaged,
                     fmt::format("{}: is damaged or not what it should be: see the findings: "
                                 "clonectl repair says what can be done",
                                 arguments.meta));
}

}  // namespace

void add_check(CLI::App& app) {
  auto* command = app.add_subcommand("check", "Look whether the metadata of a clone are sound");
  auto arguments = std::make_shared<CheckArguments>();
  command->add_option("META", arguments->meta, "The metadata file or device")->required();
  auto* origin =
      command->add_option("--origin", arguments->origin, "Is this the origin it was made with?");
  origin->type_name("SPEC");
  auto* dest =
      command->add_option("--dest", arguments->dest, "Is this the destination it was made with?");
  dest->type_name("PATH");
  command->add_flag("--deep", arguments->deep, "Compare what was copied with the origin")
      ->needs(origin)
      ->needs(dest);
  command->add_flag("--json", arguments->json, "One JSON object for programs");
  command->callback([arguments] { show_check(*arguments); });
}

}  // namespace clonectl
