#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "clonedev/options.h"
#include "command_error.h"
#include "commands.h"
#include "conf_folder.h"
#include "control_client.h"
#include "lun_config.h"
#include "target_helper.h"

namespace clonectl {
namespace {

struct Setting {
  std::string key;
  std::string value;
};

// The parser judges: beside conf= it accepts live keys only.
Setting judge(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || text.find(';') != std::string::npos) {
    misused(fmt::format("{}: is not KEY=VALUE: write for example hydration=off", text));
  }
  Setting setting{text.substr(0, equals), text.substr(equals + 1)};
  const auto judged = clonedev::parse_config("clone/conf=judge;" + text);
  if (setting.key == "conf" || (judged && !judged->warnings.empty())) {
    misused(fmt::format("{}: is no live key: see tcmu-clone(7)", setting.key));
  }
  if (!judged) {
    misused(judged.error().message());
  }
  return setting;
}

std::string changed_config(std::string config, const std::vector<std::string>& texts) {
  std::vector<std::string> keys;
  for (const std::string& text : texts) {
    const Setting setting = judge(text);
    if (std::find(keys.begin(), keys.end(), setting.key) != keys.end()) {
      misused(fmt::format("{}: is given twice: keep one of them", setting.key));
    }
    keys.push_back(setting.key);
    config = with_setting(config, setting.key, setting.value);
  }
  if (const auto judged = clonedev::parse_config(config); !judged) {
    throw CommandError(ExitCode::failed, judged.error().message());
  }
  return config;
}

void set_live_keys(const Context& context, const std::string& name,
                   const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    judge(text);
  }
  // With a dead daemon the write below would sleep in the kernel and could not be killed.
  ControlClient(context.socket_path).request({"status", name});
  const ConfFolder folder;  // Nobody else saves the configuration meanwhile.
  const auto lun = find_lun(configfs_root(), name);
  write_config(lun, changed_config(read_config(lun), texts));
  try {
    TargetHelper(folder).request({{"do", "commit"}, {"name", name}});
  } catch (const CommandError& error) {
    throw CommandError(
        error.code(), fmt::format("{}: applied but not saved: {}: run targetcli saveconfig, or the "
                                  "next boot brings the old settings back",
                                  name, error.what()));
  }
}

}  // namespace

void add_set(CLI::App& app, const Context& context) {
  auto* command = app.add_subcommand("set", "Change live keys of a LUN; persistent");
  auto name = std::make_shared<std::string>();
  auto settings = std::make_shared<std::vector<std::string>>();
  command->add_option("NAME", *name, "The LUN")->required();
  command->add_option("KEY=VALUE", *settings, "Live keys of tcmu-clone(7)")->required();
  command->callback([&context, name, settings] { set_live_keys(context, *name, *settings); });
}

}  // namespace clonectl
