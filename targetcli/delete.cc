// Taking a LUN down, also one that failed to open or is only half there: what is missing already is
// no failure.

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "clonedev/options.h"
#include "command_error.h"
#include "commands.h"
#include "conf_folder.h"
#include "control_client.h"
#include "engine/known_clones.h"
#include "environment.h"
#include "human.h"
#include "lun_config.h"
#include "metadata_file.h"
#include "purge.h"
#include "target_helper.h"

namespace clonectl {
namespace {

using clonedev::KnownClone;

struct DeleteArguments {
  std::string name;
  bool purge = false;
  bool force = false;
};

bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

class Deletion {
 public:
  Deletion(const Context& context, const DeleteArguments& arguments)
      : arguments_(arguments), name_(arguments.name), daemon_(context.socket_path) {}

  void run() {
    known_ = find_known();
    if (backstore_is_there()) daemon_.request({"list"});  // Else the kernel would wait for it.
    bool found = take_down();
    if (known_) clear_files();
    found |= folder_.remove_conf(name_);
    found |= folder_.remove_export(name_);
    found |= forget_failure();
    if (!found && !known_) {
      throw CommandError(ExitCode::failed,
                         fmt::format("{}: there is no such LUN, and nothing of one: see clonectl "
                                     "list",
                                     printable(name_)));
    }
    // Last: until then a second delete finds what this one could not remove.
    if (known_) value_or_give_up(clonedev::KnownClones(state_dir_).forget(name_));
  }

 private:
  std::optional<KnownClone> find_known() const {
    return value_or_give_up(clonedev::KnownClones(state_dir_).find(name_));
  }

  // Throws when another handler has it.
  bool backstore_is_there() const {
    const auto core = configfs_root() / "target" / "core";
    std::error_code error;
    for (const auto& hba : std::filesystem::directory_iterator(core, error)) {
      if (!hba.path().filename().string().starts_with("user_") || !is_there(hba.path() / name_)) {
        continue;
      }
      const std::string config = read_config(hba.path() / name_);
      if (!config.empty() && config != "NULL" && !config.starts_with("clone/")) {
        throw CommandError(ExitCode::failed,
                           fmt::format("{}: belongs to another handler ({}): take it down with "
                                       "targetcli",
                                       name_, printable(config.substr(0, config.find('/')))));
      }
      return true;
    }
    return false;
  }

  bool take_down() {
    const Json shown = folder_.read_export(name_);
    const Json with = shown.is_object() ? shown : Json();
    if (!arguments_.force) {
      const Json why =
          helper_.request({{"do", "in_use"}, {"name", name_}, {"export", with}}).at("why");
      if (why.is_string()) {
        throw CommandError(ExitCode::failed, printable(why.get<std::string>()));
      }
    }
    const bool removed =
        helper_.request({{"do", "remove"}, {"name", name_}, {"export", with}}).at("removed");
    const bool saved = helper_.request({{"do", "commit"}, {"name", name_}}).at("saved");
    return removed || saved;
  }

  // Of a LUN that did not open, which the kernel never had.
  bool forget_failure() const {
    try {
      daemon_.request({"forget", name_});
      return true;
    } catch (const CommandError&) {  // It does not list it, or is not there.
      return false;
    }
  }

  void clear_files() const {
    if (arguments_.purge) return purge(*known_);
    for (const auto& [role, path] :
         {std::pair{"destination", known_->dest}, std::pair{"metadata", known_->meta}}) {
      if (is_there(path)) fmt::print("kept: {} {}\n", role, path);
    }
  }

  const DeleteArguments& arguments_;
  const std::string& name_;
  const ControlClient daemon_;
  const std::string state_dir_ = from_environment("TCMU_CLONE_STATE_DIR", "/var/lib/tcmu-clone");
  const ConfFolder folder_;
  TargetHelper helper_{folder_};
  std::optional<KnownClone> known_;
};

}  // namespace

void add_delete(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("delete", "Take a LUN down and forget it");
  auto arguments = std::make_shared<DeleteArguments>();
  command->add_option("NAME", arguments->name, "The LUN")->required();
  command->add_flag("--purge", arguments->purge, "Remove destination and metadata files, too");
  command->add_flag("--force", arguments->force,
                    "Although it is in use: its users lose their disk");
  command->callback([&context, arguments] {
    if (arguments->name.empty() || arguments->name.front() == '.' ||
        arguments->name.find('/') != std::string::npos) {
      throw CommandError(ExitCode::usage,
                         fmt::format("{}: cannot be the name of a LUN: see clonectl list",
                                     printable(arguments->name)));
    }
    Deletion(context, *arguments).run();
  });
}

}  // namespace clonectl
