// `clonectl repair`: says what is wrong and what each choice means; writes nothing that the admin
// has not asked for by name.
#include "metadata/repair.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "backup.h"
#include "commands.h"
#include "environment.h"
#include "human.h"
#include "metadata/live_map.h"
#include "metadata/metadata_check.h"
#include "metadata_file.h"
#include "present.h"

namespace clonectl {
namespace {

using clonedev::BlockState;
using clonedev::ExclusiveFile;
using clonedev::FrozenPage;
using clonedev::HostIds;
using clonedev::LiveMap;
using clonedev::MetadataReport;
using clonedev::Superblock;
using clonedev::TreeShape;

struct RepairArguments {
  std::string meta;
  std::string lost;  // What the lost ranges shall become; empty: not said.
  bool take_over = false;
  bool without_live_map = false;
  bool clear_needs_check = false;
  bool rebind = false;
  std::string origin;  // For rebind; so is the next, and for the live map.
  std::string dest;
  std::string backup;

  bool acts() const {
    return !lost.empty() || take_over || without_live_map || clear_needs_check || rebind;
  }
};

// Who has the clone attached, as far as opening it goes.
enum class Attachment {
  none,         // Clean, or attached before a power loss: the durable map counts.
  live_map,     // By a process of this boot that died: the live map counts, and is there.
  no_live_map,  // The same, but it is missing.
  other_machine,
};

std::string live_dir() { return from_environment("TCMU_CLONE_LIVE", "/run/tcmu-clone/live"); }

Attachment attachment_of(const Superblock& superblock) {
  if (superblock.clean) return Attachment::none;
  const HostIds host = value_or_give_up(clonedev::read_host_ids());
  if (superblock.machine_id != host.machine) return Attachment::other_machine;
  if (superblock.boot_id != host.boot) return Attachment::none;
  const bool left = LiveMap::is_left(live_dir(), superblock.uuid, superblock.attach_id);
  return left ? Attachment::live_map : Attachment::no_live_map;
}

struct Case {
  const RepairArguments& arguments;
  const MetadataReport& report;
  const Superblock& superblock;
  Attachment attachment;
};

[[noreturn]] void refuse(const std::string& text) { throw CommandError(ExitCode::failed, text); }

// ---- what is wrong, and what each choice means ----

const char* what_lost_means(const Case& c) {
  if (c.superblock.complete) {
    return "  The clone is complete, so all of it is on the destination: --lost destination loses\n"
           "  nothing.\n";
  }
  if (c.attachment == Attachment::live_map) {
    return "  The live map of this boot knows all states: --lost live --dest PATH loses nothing.\n";
  }
  return "  --lost destination: they read from the destination. Right for all that was written or\n"
         "      copied before; a block that was still the origin's reads as what the destination\n"
         "      happens to hold there (zeroes in a fresh file), one that was discarded may show "
         "old\n"
         "      data. Nothing is overwritten, so it can be undone with the backup.\n"
         "  --lost origin: they read from the origin. Right only where nothing was ever written:\n"
         "      what was written there is out of sight, and hydration overwrites it for good.\n";
}

// The lines of all that keeps the clone from opening as it should; empty: nothing does.
std::string diagnosis(const Case& c) {
  std::string text;
  for (const clonedev::Extent& extent : c.report.lost) {
    text += fmt::format("lost: bytes {}..{} of the disk ({}): where their data is, is not known\n",
                        extent.offset, extent.end() - 1, human_bytes(extent.length));
  }
  if (!c.report.lost.empty()) text += what_lost_means(c);
  if (c.attachment == Attachment::other_machine) {
    text += fmt::format(
        "attached: by the machine {}\n"
        "  --take-over: only when that machine is certainly off, or has no access any more. What\n"
        "      it had not made durable is lost, as in a power cut.\n",
        clonedev::id_text(c.superblock.machine_id));
  }
  if (c.attachment == Attachment::no_live_map) {
    text += fmt::format(
        "live map: {} is missing or not of the last use\n"
        "  --without-live-map: writes that were acknowledged and not flushed, usually those of\n"
        "      the last second, may be out of sight: their blocks may read as the origin's or as\n"
        "      older data. Flushed writes are safe. Better: bring that file back, if it exists.\n",
        LiveMap::path_of(live_dir(), c.superblock.uuid));
  }
  if (c.superblock.needs_check) {
    text += fmt::format(
        "needs_check: {}\n"
        "  --clear-needs-check: the cause is mended, and file systems on the LUN are checked\n"
        "      before they are used: what was written after that failure may be lost.\n",
        printable(c.superblock.reason));
  }
  return text;
}

// ---- what was asked for, judged before anything is written ----

void judge_lost(const Case& c) {
  const std::string& lost = c.arguments.lost;
  if (c.report.lost.empty()) {
    if (!lost.empty()) refuse(fmt::format("{}: --lost: nothing is lost", c.arguments.meta));
    return;
  }
  if (lost.empty()) {
    refuse(
        fmt::format("{}: states are lost: see clonectl repair {} without options, and choose "
                    "with --lost",
                    c.arguments.meta, c.arguments.meta));
  }
  if (c.superblock.complete && lost != "destination") {
    refuse(
        fmt::format("{}: --lost {}: the clone is complete, all of it is on the destination: use "
                    "--lost destination",
                    c.arguments.meta, lost));
  }
  const bool live = c.attachment == Attachment::live_map;
  if (live && lost != "live" && !c.superblock.complete) {
    refuse(fmt::format("{}: --lost {}: the live map knows better: use --lost live --dest PATH",
                       c.arguments.meta, lost));
  }
  if (!live && lost == "live") {
    refuse(fmt::format("{}: --lost live: there is no live map of this use of the clone",
                       c.arguments.meta));
  }
}

// Not clean, so that what only a clean detach proves (the mark `copied`) is not believed.
void attach_before_a_power_loss(Superblock& superblock) {
  superblock.machine_id = value_or_give_up(clonedev::read_host_ids()).machine;
  superblock.boot_id = clonedev::Id{};
}

void judge_attachment(const Case& c, Superblock& next) {
  if (c.arguments.take_over) {
    if (c.attachment != Attachment::other_machine) {
      refuse(fmt::format("{}: --take-over: no other machine has it attached", c.arguments.meta));
    }
    attach_before_a_power_loss(next);
  }
  if (!c.arguments.without_live_map) return;
  if (c.attachment == Attachment::live_map) {
    refuse(
        fmt::format("{}: --without-live-map: it is there and loses nothing: start tcmu-runner. "
                    "If the LUN refuses it, move {} away first",
                    c.arguments.meta, LiveMap::path_of(live_dir(), c.superblock.uuid)));
  }
  if (c.attachment != Attachment::no_live_map) {
    refuse(fmt::format("{}: --without-live-map: none is needed", c.arguments.meta));
  }
  attach_before_a_power_loss(next);
}

void judge_needs_check(const Case& c, Superblock& next) {
  if (!c.arguments.clear_needs_check) return;
  if (!c.superblock.needs_check) {
    refuse(fmt::format("{}: --clear-needs-check: needs_check is not set", c.arguments.meta));
  }
  // It would say so again to the next open.
  if (c.attachment == Attachment::live_map) {
    refuse(
        fmt::format("{}: --clear-needs-check: the live map of this boot says it too: start "
                    "tcmu-runner, then clonectl message {} clear_needs_check",
                    c.arguments.meta, printable(c.superblock.name)));
  }
  next.needs_check = false;
  next.reason.clear();
}

void judge_rebind(const Case& c, clonedev::Reactor& reactor, Superblock& next) {
  const RepairArguments& arguments = c.arguments;
  if (!arguments.rebind) return;
  const std::uint64_t size = c.superblock.size_bytes;
  if (!arguments.dest.empty()) {
    const Present present = present_destination(arguments.dest);
    if (present.size_bytes < size) {
      refuse(fmt::format("destination {}: has only {} bytes, the clone has {}: it is no whole copy",
                         arguments.dest, present.size_bytes, size));
    }
    next.destination_identity = present.identity;
  }
  if (!arguments.origin.empty()) {
    const Present present = present_origin(arguments.origin, reactor);
    if (std::min(present.size_bytes, size) != std::min(c.superblock.origin_size, size)) {
      refuse(fmt::format("origin {}: has {} bytes, the one before had {}: it is no whole copy",
                         present.name, present.size_bytes, c.superblock.origin_size));
    }
    next.origin_size = present.size_bytes;
    next.origin_identity = present.identity;
  }
}

// The live map may speak of data that only the destination's cache has, and what it says is about
// to be durable (I1).
std::optional<ExclusiveFile> destination_of_live_map(const Case& c, const Superblock& next) {
  if (c.arguments.lost != "live") return std::nullopt;
  const std::string& path = c.arguments.dest;
  auto file =
      value_or_give_up(ExclusiveFile::open(path, "destination", std::chrono::milliseconds(0)));
  const std::string mismatch = destination_mismatch(next, {path, file.size(), file.identity()});
  if (!mismatch.empty()) refuse(mismatch);
  return file;
}

std::vector<FrozenPage> content_of_lost(const Case& c,
                                        const std::optional<ExclusiveFile>& destination) {
  const auto& pages = c.report.lost_pages;
  if (!destination) {
    const bool here = c.arguments.lost == "destination";
    return content_in_state(pages, here ? BlockState::destination : BlockState::origin);
  }
  value_or_give_up(destination->sync());
  const TreeShape shape(c.superblock);
  const auto live = value_or_give_up(
      LiveMap::adopt(live_dir(), c.superblock.uuid, c.superblock.attach_id,
                     shape.geometry().blocks(), c.superblock.state_of_new_blocks()));
  return content_of(pages, *live, shape.geometry());
}

void act(MetadataFile& meta, const Case& c) {
  const RepairArguments& arguments = c.arguments;
  judge_lost(c);
  Superblock next = c.superblock;
  judge_attachment(c, next);
  judge_needs_check(c, next);
  judge_rebind(c, meta.reactor(), next);
  const auto destination = destination_of_live_map(c, next);
  const auto content = content_of_lost(c, destination);
  const std::string backup = make_backup(meta, arguments.backup);
  fmt::print("backup: {} holds the metadata as they were\n", backup);
  value_or_give_up(meta.run([&] { return repair_metadata(meta.device(), next, content); }));
  for (const clonedev::Extent& extent : c.report.lost) {
    fmt::print("repaired: bytes {}..{} of the disk: {}\n", extent.offset, extent.end() - 1,
               arguments.lost);
  }
  if (arguments.rebind) {
    fmt::print("bound to: origin {} ({} bytes), destination {}\n", printable(next.origin_identity),
               next.origin_size, printable(next.destination_identity));
  }
}

void judge_words(const RepairArguments& arguments) {
  const auto unless = [](bool right, const char* text) {
    if (!right) throw CommandError(ExitCode::usage, text);
  };
  const bool live = arguments.lost == "live";
  const bool named = !arguments.origin.empty() || !arguments.dest.empty();
  unless(!arguments.rebind || named,
         "--rebind goes with --origin or --dest or both: see clonectl repair --help");
  unless(!live || !arguments.dest.empty(),
         "--lost live goes with --dest: data are made durable before what the live map says of "
         "them: see clonectl repair --help");
  unless(arguments.rebind || arguments.origin.empty(), "--origin goes with --rebind");
  unless(arguments.rebind || live || arguments.dest.empty(),
         "--dest goes with --rebind or --lost live");
}

void repair(const RepairArguments& arguments) {
  judge_words(arguments);
  MetadataFile meta(
      open_metadata(arguments.meta, arguments.acts() ? Access::change : Access::read));
  const auto look = [&] {
    return value_or_give_up(meta.run([&] { return clonedev::check_metadata(meta.device()); }));
  };
  MetadataReport report = look();
  if (!report.superblock || (!report.map_sound && report.lost.empty())) {
    throw CommandError(ExitCode::damaged,
                       fmt::format("{}: {}", arguments.meta, report.findings.front().text));
  }
  if (arguments.acts()) {
    act(meta, {arguments, report, *report.superblock, attachment_of(*report.superblock)});
    report = look();
  }
  const Superblock& superblock = *report.superblock;
  const std::string left = diagnosis({arguments, report, superblock, attachment_of(superblock)});
  fmt::print("{}", left.empty() ? "nothing is left to repair\n" : left);
  if (left.empty() && !report.damaged()) return;
  throw CommandError(
      ExitCode::damaged,
      fmt::format("{}: {}", arguments.meta,
                  left.empty()       ? report.findings.front().text
                  : arguments.acts() ? "done as asked; the lines above are left"
                                     : "nothing was changed: choose one of the options above"));
}

}  // namespace

void add_repair(CLI::App& app) {
  auto* command = app.add_subcommand("repair", "Say what is lost, and mend it as told");
  auto arguments = std::make_shared<RepairArguments>();
  command->add_option("META", arguments->meta, "The metadata file or device")->required();
  command->add_option("--lost", arguments->lost, "Where the data of the lost ranges is")
      ->check(CLI::IsMember({"destination", "origin", "live"}))
      ->type_name("STATE");
  command->add_flag("--take-over", arguments->take_over,
                    "The machine that has it attached is certainly off");
  command->add_flag("--without-live-map", arguments->without_live_map,
                    "The live map is gone: unflushed writes may be lost");
  command->add_flag("--clear-needs-check", arguments->clear_needs_check,
                    "The cause of the failure is mended");
  command->add_flag("--rebind", arguments->rebind, "Origin or destination were moved on purpose");
  command->add_option("--origin", arguments->origin, "Where the origin is")->type_name("SPEC");
  command->add_option("--dest", arguments->dest, "Where the destination is")->type_name("PATH");
  command->add_option("--backup", arguments->backup, "Not to META.before-repair")
      ->type_name("FILE");
  command->callback([arguments] { repair(*arguments); });
}

}  // namespace clonectl
