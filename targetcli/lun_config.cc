#include "lun_config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <optional>
#include <system_error>
#include <vector>

#include "command_error.h"
#include "environment.h"

namespace clonectl {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSubtype = "clone/";
constexpr std::string_view kRunnerTimeout = "tcmur_cmd_time_out";

[[noreturn]] void refuse(const std::string& text) { throw CommandError(ExitCode::failed, text); }

// An attribute: at most a page, a C string.
std::optional<std::string> read_attribute(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return std::nullopt;
  }
  std::array<char, 4096> page;
  file.read(page.data(), page.size());
  const std::string text(page.data(), static_cast<std::size_t>(file.gcount()));
  return text.substr(0, text.find('\0'));
}

std::string without_newline(std::string text) {
  text.resize(text.find_last_not_of("\r\n") + 1);
  return text;
}

// The info file of older kernels: "Config: STRING Size: ...".
std::optional<std::string> config_in_info(const fs::path& lun) {
  constexpr std::string_view kLabel = "Config: ";
  const auto info = read_attribute(lun / "info");
  const auto start = info ? info->find(kLabel) : std::string::npos;
  if (start == std::string::npos) {
    return std::nullopt;
  }
  const auto value = start + kLabel.size();
  return info->substr(value, info->find_first_of(" \n", value) - value);
}

std::optional<std::string> config_of(const fs::path& lun) {
  auto attribute = read_attribute(lun / "attrib" / "dev_config");
  if (attribute && !without_newline(*attribute).empty()) {
    return without_newline(std::move(*attribute));
  }
  return config_in_info(lun);
}

bool is_ours(const fs::path& lun) {
  const auto config = config_of(lun);
  return config && config->starts_with(kSubtype);
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

// The word under which a setting may also stand, as in no_hydration.
std::string off_word(std::string_view key) { return fmt::format("no_{}", key); }

}  // namespace

fs::path configfs_root() { return from_environment("TCMU_CLONE_CONFIGFS", "/sys/kernel/config"); }

fs::path find_lun(const fs::path& root, const std::string& name) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& hba : fs::directory_iterator(root / "target" / "core", error)) {
    const fs::path lun = hba.path() / name;
    if (is_plain_name(name) && hba.path().filename().string().starts_with("user_") &&
        fs::is_directory(lun, error) && is_ours(lun)) {
      found.push_back(lun);
    }
  }
  if (found.empty()) {
    refuse(
        fmt::format("{}: no backstore of this name under {}: see targetcli ls "
                    "/backstores/user:clone",
                    name, (root / "target" / "core").string()));
  }
  if (found.size() > 1) {
    refuse(fmt::format("{}: more than one backstore has this name: rename one of {} and {}", name,
                       found[0].string(), found[1].string()));
  }
  return found.front();
}

std::string read_config(const fs::path& lun) {
  auto config = config_of(lun);
  if (!config) {
    refuse(fmt::format("{}: its config string cannot be read: try again as root", lun.string()));
  }
  return *config;
}

void write_config(const fs::path& lun, const std::string& config) {
  const fs::path path = lun / "attrib" / "dev_config";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    refuse(fmt::format("{}: cannot be opened: {}: {}", path.string(),
                       std::generic_category().message(error),
                       error == EACCES ? "try again as root" : "is the LUN still there?"));
  }
  // One write, and no newline: the kernel keeps what it gets, byte for byte.
  const ssize_t written = ::write(fd, config.data(), config.size());
  const int error = errno;
  ::close(fd);
  if (written != static_cast<ssize_t>(config.size())) {
    refuse(
        fmt::format("{}: the daemon refused the change: {}: the old settings stand; see the log "
                    "of tcmu-runner",
                    path.string(), std::generic_category().message(written < 0 ? error : EIO)));
  }
}

std::string with_setting(std::string_view config, std::string_view key, std::string_view value) {
  const std::string setting = fmt::format("{}={}", key, value);
  std::string changed(kSubtype);
  bool placed = false;
  const auto append = [&](std::string_view piece) {
    changed += fmt::format("{}{}", changed.size() > kSubtype.size() ? ";" : "", piece);
  };
  std::string_view rest = config.substr(std::min(kSubtype.size(), config.size()));
  while (!rest.empty()) {
    const auto end = std::min(rest.find(';'), rest.size());
    const auto piece = rest.substr(0, end);
    const auto name = piece.substr(0, piece.find('='));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const bool replaces = name == key || name == off_word(key);
    // The option of the runner has to stay the last one.
    if (!placed && (replaces || name == kRunnerTimeout)) {
      append(setting);
      placed = true;
    }
    if (!replaces && !piece.empty()) {
      append(piece);
    }
  }
  if (!placed) {
    append(setting);
  }
  return changed;
}

}  // namespace clonectl
