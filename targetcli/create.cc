// Making a LUN: everything is judged, then made step by step; when a step fails, all of it is taken
// back, the last thing first.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>
#include <optional>

#include "clonedev/options.h"
#include "command_error.h"
#include "commands.h"
#include "conf_folder.h"
#include "control_client.h"
#include "core/config_parser.h"
#include "core/config_value.h"
#include "engine/known_clones.h"
#include "environment.h"
#include "files_before.h"
#include "human.h"
#include "interrupts.h"
#include "present.h"
#include "target_helper.h"

namespace clonectl {
namespace {

using clonedev::Options;

constexpr std::uint64_t kSector = 512;

struct CreateArguments {
  std::string name;
  std::string origin;
  std::string dest;
  std::string meta;
  std::string size;
  std::vector<std::string> settings;
  bool loopback = false;
  std::string iqn;
  std::string nqn;
  std::vector<std::string> allow;
  std::string listen;
};

// It becomes the name of files, of a folder in configfs and a part of the config string.
void check_name(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
  if (plain && !name.empty() && name.size() <= clonedev::Superblock::kMaxName &&
      name.front() != '.' && name.front() != '-') {
    return;
  }
  misused(
      fmt::format("{}: cannot be the name of a LUN: give 1 to {} letters, digits, '_', '-' and "
                  "'.', without a leading '.' or '-'",
                  printable(name), clonedev::Superblock::kMaxName));
}

std::string line_of(const std::string& key, const std::string& value) {
  constexpr const char* kBlanks = " \t\r\n";
  const bool kept = value.empty() || (value.find_first_of("\r\n") == std::string::npos &&
                                      value.find_first_of(kBlanks) != 0 &&
                                      value.find_last_not_of(kBlanks) == value.size() - 1);
  if (!kept) misused(fmt::format("{}: has a newline, or a blank at an end: rename it", key));
  return fmt::format("{} = {}\n", key, value);
}

// A '#' would make it a comment.
void check_key(const std::string& setting, std::size_t length) {
  const std::string key = setting.substr(0, length);
  const bool plain = std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '_';
  });
  if (plain && !key.empty() && length != std::string::npos) return;
  misused(fmt::format("--set {}: is not KEY=VALUE: write for example hydration=off",
                      printable(setting)));
}

std::string settings_text(const CreateArguments& arguments) {
  std::string text = line_of("origin", arguments.origin) + line_of("dest", arguments.dest);
  if (!arguments.meta.empty()) text += line_of("meta", arguments.meta);
  for (const std::string& setting : arguments.settings) {
    const auto equals = setting.find('=');
    check_key(setting, equals);
    text += line_of(setting.substr(0, equals), setting.substr(equals + 1));
  }
  return text;
}

// Once the clone is made, `init` would only make another one over it, should the records get lost.
std::string without_init(const CreateArguments& arguments) {
  CreateArguments later = arguments;
  std::erase_if(later.settings, [](const auto& setting) { return setting.starts_with("init="); });
  return settings_text(later);
}

Options judged(const std::string& settings, const std::string& config) {
  constexpr std::string_view kFile = "create";
  auto options = clonedev::parse_conf_text(settings, kFile, config);
  if (options) return std::move(*options);
  // Nobody has seen the lines that the sentence would count.
  std::string text = options.error().message();
  if (text.starts_with(fmt::format("{} line ", kFile))) text.erase(0, text.find(": ") + 2);
  misused(text);
}

[[noreturn]] void no_address(const std::string& listen) {
  misused(
      fmt::format("--listen {}: is not ADDRESS or ADDRESS:PORT: write for example 192.0.2.1:3260 "
                  "or [2001:db8::1]:3260",
                  printable(listen)));
}

// "ADDRESS", "ADDRESS:PORT"; IPv6 in brackets. The port stays 0 when there is none.
std::pair<std::string, int> address_and_port(const std::string& listen) {
  const bool plain = std::all_of(listen.begin(), listen.end(),
                                 [](unsigned char c) { return c > ' ' && c != '/' && c < 0x7f; });
  if (!plain) no_address(listen);
  const auto colon = listen.find(':', listen.starts_with('[') ? listen.find(']') : 0);
  if (colon == std::string::npos) return {listen, 0};
  const std::string digits = listen.substr(colon + 1);
  const bool number = !digits.empty() && digits.size() <= 5 &&
                      std::all_of(digits.begin(), digits.end(),
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  const int port = number ? std::stoi(digits) : 0;
  if (port < 1 || port > 65535) no_address(listen);
  return {listen.substr(0, colon), port};
}

// It becomes the name of a folder in configfs.
void check_names(const char* option, const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 223;
  for (const std::string& name : names) {
    const bool plain = std::all_of(name.begin(), name.end(),
                                   [](unsigned char c) { return c > ' ' && c != '/' && c < 0x7f; });
    if (plain && !name.empty() && name.size() <= kMost && name.front() != '.') continue;
    misused(fmt::format("{} {}: is no such name: write for example iqn.2026-01.com.example:vm1",
                        option, printable(name)));
  }
}

Json wanted_export(const CreateArguments& arguments) {
  if (arguments.loopback) return {{"fabric", "loopback"}};
  const bool nvme = !arguments.nqn.empty();
  if (!nvme && arguments.iqn.empty()) return {};
  check_names(nvme ? "--nvme" : "--iscsi", {nvme ? arguments.nqn : arguments.iqn});
  check_names("--allow", arguments.allow);
  auto [address, port] = address_and_port(arguments.listen);
  if (nvme && arguments.allow.empty()) {
    misused(
        "--nvme: nobody may connect: name the hosts that may with --allow NQN, or give --allow "
        "any");
  }
  if (std::find(arguments.allow.begin(), arguments.allow.end(), "any") != arguments.allow.end() &&
      arguments.allow.size() > 1) {
    misused("--allow any: lets everybody in: leave the other --allow away");
  }
  if (nvme && address.empty()) address = "0.0.0.0";
  if (nvme && port == 0) port = 4420;
  return {{"fabric", nvme ? "nvme" : "iscsi"},
          {"target", nvme ? arguments.nqn : arguments.iqn},
          {"address", address},
          {"port", port},
          {"allow", arguments.allow},
          {"made", nvme}};
}

// 0: the origin is to be asked.
std::uint64_t wanted_size(const std::string& text) {
  if (text.empty()) return 0;
  const auto size = clonedev::parse_size(text);
  if (size && *size > 0 && *size % kSector == 0) return *size;
  misused(fmt::format("--size {}: is not a size: give bytes, a multiple of 512, or 100g",
                      printable(text)));
}

// In whole sectors.
std::uint64_t size_of_origin(const Options& options) {
  const auto reactor = value_or_give_up(clonedev::Reactor::create());
  const clonedev::OriginSettings settings{.token = options.origin_token,
                                          .ca_file = options.origin_ca};
  const std::uint64_t size = present_origin(options.origin, *reactor, settings).size_bytes;
  if (size == 0) {
    throw CommandError(ExitCode::failed, "the origin is empty: give one that holds a disk");
  }
  return (size + kSector - 1) / kSector * kSector;
}

// Also proves that the daemon is there: without it the kernel would wait for it, and nothing could
// end that wait. Whether it lists a failure under this name.
bool refuse_if_open(const ControlClient& daemon, const std::string& name) {
  bool failed = false;
  for (const Json& lun : daemon.request({"list"})) {
    if (lun.at("name") != name) continue;
    if (lun.at("state") == "failed") {
      failed = true;
      continue;
    }
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: there is a LUN of this name: clonectl delete it, or choose "
                                   "another name",
                                   name));
  }
  return failed;
}

class Creation {
 public:
  Creation(const Context& context, const CreateArguments& arguments)
      : name_(arguments.name),
        config_(fmt::format("clone/conf={}", name_)),
        settings_(settings_text(arguments)),
        settings_later_(without_init(arguments)),
        options_(judged(settings_, config_)),
        export_(wanted_export(arguments)),
        size_(wanted_size(arguments.size)),
        daemon_(context.socket_path) {
    failed_before_ = refuse_if_open(daemon_, name_);
    if (size_ == 0) size_ = size_of_origin(options_);
  }

  void run() {
    const FilesBefore before(name_, options_, state_dir_);
    folder_.write_conf(name_, settings_);
    try {
      make();
    } catch (const CommandError& error) {
      throw CommandError(error.code(), fmt::format("{}: {}", error.what(), take_back(before)));
    } catch (const std::exception& error) {
      throw CommandError(ExitCode::failed, fmt::format("{}: {}", error.what(), take_back(before)));
    }
  }

  void tell() const;
  void tell_of_outages() const;

 private:
  void make();
  void open();
  std::string why_not_open(const std::string& otherwise) const;
  std::string take_back(const FilesBefore& before);
  void put_back_export() const;
  void wait_for_daemon() const;
  std::string serial() const;
  void forget() const;
  std::string host() const;

  const std::string name_;
  const std::string config_;
  const std::string settings_;
  const std::string settings_later_;
  const Options options_;
  Json export_;
  std::uint64_t size_;
  const Interrupts interrupts_;
  const ControlClient daemon_;
  const std::string state_dir_ = from_environment("TCMU_CLONE_STATE_DIR", "/var/lib/tcmu-clone");
  const ConfFolder folder_;
  TargetHelper helper_{folder_};
  const Json export_before_ = folder_.read_export(name_);  // Left from a LUN of this name.
  bool failed_before_ = false;
  bool opened_ = false;
  bool export_written_ = false;
  Json shown_;  // Where it is to be seen.
};

void Creation::make() {
  export_ = helper_.request({{"do", "prepare"}, {"name", name_}, {"export", export_}}).at("export");
  interrupts_.check();
  open();
  if (settings_later_ != settings_) folder_.rewrite_conf(name_, settings_later_);
  interrupts_.check();
  shown_ = helper_.request(
      {{"do", "export"}, {"name", name_}, {"export", export_}, {"serial", serial()}});
  interrupts_.check();
  if (!export_.is_null()) {
    folder_.write_export(name_, export_);
    export_written_ = true;
  }
  helper_.request({{"do", "commit"}, {"name", name_}});
}

void Creation::open() {
  try {
    helper_.request({{"do", "backstore"}, {"name", name_}, {"size", size_}, {"config", config_}});
  } catch (const CommandError& error) {
    throw CommandError(error.code(), why_not_open(error.what()));
  }
  opened_ = true;
}

// Only the daemon can tell, unless it never came to it; the kernel passes on a number.
std::string Creation::why_not_open(const std::string& otherwise) const {
  try {
    const Json reason = daemon_.request({"status", name_}).value("reason", Json());
    return reason.is_string() ? printable(reason.get<std::string>()) : otherwise;
  } catch (const CommandError&) {
    return otherwise;
  }
}

// Initiators know the disk by the clone's own UUID, wherever it is served from.
std::string Creation::serial() const {
  const auto known = value_or_give_up(clonedev::KnownClones(state_dir_).find(name_));
  if (!known) {
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: the daemon has no record of it in {}: do clonectl and the "
                                   "daemon use the same folder?",
                                   name_, state_dir_));
  }
  return known->uuid;
}

void Creation::put_back_export() const {
  if (!export_written_) return;
  if (export_before_.is_object()) {
    folder_.write_export(name_, export_before_);
  } else {
    folder_.remove_export(name_);
  }
}

// The kernel asks the daemon when a LUN goes, and waits until there is one.
void Creation::wait_for_daemon() const {
  try {
    daemon_.request({"list"});
  } catch (const CommandError&) {
    fmt::print(stderr,
               "clonectl: the daemon is away: waiting for tcmu-runner, to take {} back: start it\n",
               name_);
  }
}

// The files only when the LUN is certainly gone; else it may still write to them.
std::string Creation::take_back(const FilesBefore& before) {
  wait_for_daemon();
  std::string left = helper_.end();
  if (!left.empty()) {
    return fmt::format(
        "not all could be taken back: {}: mend that, then clonectl delete {} --purge", left, name_);
  }
  if (opened_) left = before.put_back();
  put_back_export();
  folder_.remove_conf(name_);
  if (!failed_before_) forget();
  return left.empty() ? "nothing was changed" : "taken back, but " + left;
}

// A failure that was told needs no place in the list.
void Creation::forget() const {
  try {
    daemon_.request({"forget", name_});
  } catch (const CommandError&) {  // It does not list it.
  }
}

std::string Creation::host() const {
  const Json portals = export_.value("portals", Json::array());
  const Json& place = portals.empty() ? export_ : portals[0];
  const std::string address = place.at("address");
  if (address != "0.0.0.0" && address != "[::]") return address;
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

void Creation::tell() const {
  fmt::print("{}: {}, settings in {}\n", name_, human_bytes(size_), folder_.conf_path(name_));
  if (export_.is_null()) {
    fmt::print("export it with targetcli: backstore /backstores/user:clone/{}\n", name_);
    return;
  }
  const std::string fabric = export_.at("fabric");
  if (fabric == "loopback") {
    fmt::print("disk of this host: {}\n", shown_.at("disk").get<std::string>());
  } else if (fabric == "nvme") {
    std::string address = host();
    std::erase_if(address, [](char c) { return c == '[' || c == ']'; });
    fmt::print("connect: nvme connect -t tcp -a {} -s {} -n {}\n", address,
               export_.at("port").get<int>(), export_.at("target").get<std::string>());
  } else {
    const Json& portals = export_.at("portals");
    const int port = portals.empty() ? 3260 : portals[0].at("port").get<int>();
    fmt::print(
        "LUN {0} of {1}; connect: iscsiadm -m discovery -t sendtargets -p {2}:{3} && "
        "iscsiadm -m node -T {1} -p {2}:{3} --login\n",
        shown_.at("lun").get<int>(), export_.at("target").get<std::string>(), host(), port);
  }
}

// What surprises in the first long outage.
void Creation::tell_of_outages() const {
  const bool waits = clonedev::config::local_path(options_.origin).empty() &&
                     options_.on_origin_loss == clonedev::OriginLoss::busy;
  if (!waits || export_.is_null() || export_.at("fabric") == "nvme") return;
  fmt::print(
      "while the origin is away: Linux gives a read up that has waited 180 s for it, unless "
      "max_retries "
      "of its /sys/class/scsi_disk/H:C:T:L is -1: see tcmu-clone(7)\n");
}

void create(const Context& context, const CreateArguments& arguments) {
  check_name(arguments.name);
  Creation creation(context, arguments);
  creation.run();
  creation.tell();
  creation.tell_of_outages();
}

}  // namespace

void add_create(CLI::App& app, const Context& context) {
  auto* command =
      app.add_subcommand("create", "Make a LUN, export it and keep it for the next boot");
  auto arguments = std::make_shared<CreateArguments>();
  command->add_option("NAME", arguments->name, "The LUN")->required();
  command->add_option("--origin", arguments->origin, "The read-only source")
      ->required()
      ->type_name("SPEC");
  command->add_option("--dest", arguments->dest, "The destination: a file or a block device")
      ->required()
      ->type_name("PATH");
  command->add_option("--meta", arguments->meta, "The metadata: a file or a block device")
      ->type_name("PATH");
  command->add_option("--size", arguments->size, "Of the disk; else the origin's")->type_name("N");
  command->add_option("--set", arguments->settings, "Any other key of tcmu-clone(7)")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  auto* where = command->add_option_group("Export", "at most one of");
  where->add_flag("--loopback", arguments->loopback, "A disk of this host");
  auto* iscsi = where->add_option("--iscsi", arguments->iqn, "A LUN of this iSCSI target");
  iscsi->type_name("IQN");
  auto* nvme = where->add_option("--nvme", arguments->nqn, "A subsystem of NVMe over TCP");
  nvme->type_name("NQN");
  where->require_option(0, 1);
  command->add_option("--allow", arguments->allow, "An initiator that may use it, or any")
      ->type_name("NAME")
      ->expected(1)
      ->take_all();
  command->add_option("--listen", arguments->listen, "Where the target answers")
      ->type_name("ADDRESS[:PORT]");
  command->callback([&context, arguments] {
    if (arguments->iqn.empty() && arguments->nqn.empty() &&
        (!arguments->allow.empty() || !arguments->listen.empty())) {
      misused("--allow and --listen: belong to --iscsi and --nvme: give one of these");
    }
    create(context, *arguments);
  });
}

}  // namespace clonectl
