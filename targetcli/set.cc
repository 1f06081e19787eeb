#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "clonedev/options.h"
#include "command_error.h"
#include "commands.h"
#include "control_client.h"
#include "human.h"
#include "lun_config.h"

namespace clonectl {
namespace {

constexpr std::size_t kMaxSaveOutput = 4096;

struct Setting {
  std::string key;
  std::string value;
};

[[noreturn]] void misused(const std::string& text) { throw CommandError(ExitCode::usage, text); }

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

std::string targetcli_path() {
  const char* path = std::getenv("TCMU_CLONE_TARGETCLI");
  return path != nullptr && *path != '\0' ? path : "/usr/bin/targetcli";
}

// Runs `targetcli saveconfig`; empty when it saved, else why not.
std::string save_failure() {
  const std::string program = targetcli_path();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return "no pipe";
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    ::execl(program.c_str(), program.c_str(), "saveconfig", static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string output;
  std::array<char, 512> buffer;
  for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) != 0;) {
    if (got < 0 && errno != EINTR) {
      break;
    }
    if (got > 0 && output.size() < kMaxSaveOutput) {
      output.append(buffer.data(), static_cast<std::size_t>(got));
    }
  }
  ::close(ends[0]);
  int status = 0;
  while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return {};
  }
  output.resize(output.find_last_not_of(" \n") + 1);
  return output.empty() ? program + " could not be run" : printable(output);
}

void set_live_keys(const Context& context, const std::string& name,
                   const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    judge(text);
  }
  // With a dead daemon the write below would sleep in the kernel and could not be killed.
  ControlClient(context.socket_path).request({"status", name});
  const auto lun = find_lun(configfs_root(), name);
  write_config(lun, changed_config(read_config(lun), texts));
  if (const std::string why = save_failure(); !why.empty()) {
    throw CommandError(
        ExitCode::failed,
        fmt::format("{}: applied but not saved: {}: run targetcli saveconfig, or the "
                    "next boot brings the old settings back",
                    name, why));
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
