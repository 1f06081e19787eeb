#include "metadata/host_ids.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <optional>

namespace clonedev {
namespace {

std::optional<unsigned> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  return {};
}

Result<Id> read_id(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  if (const auto id = id_from_text(line); id && *id != Id{}) return *id;
  return fail(Errc::unavailable,
              fmt::format("{}: no id of 32 hexadecimal digits can be read from it, so a crash "
                          "could not be told from a power loss: provide the file",
                          path));
}

}  // namespace

Result<HostIds> read_host_ids() {
  const auto boot = read_id("/proc/sys/kernel/random/boot_id");
  if (!boot) return fail(boot.error());
  const auto machine = read_id("/etc/machine-id");
  if (!machine) return fail(machine.error());
  return HostIds{*boot, *machine};
}

Id random_id() {
  Id id;
  // Up to 256 bytes are never cut short once the generator is seeded (getrandom(2)).
  while (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    if (errno != EINTR) std::abort();
  }
  return id;
}

std::string id_text(const Id& id) {
  std::string text;
  for (std::size_t i = 0; i < id.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", id[i]);
  }
  return text;
}

std::optional<Id> id_from_text(std::string_view text) {
  Id id{};
  std::size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const auto digit = hex_digit(c);
    if (!digit || digits == 2 * id.size()) return {};
    id[digits / 2] = static_cast<std::uint8_t>(unsigned{id[digits / 2]} << 4 | *digit);
    ++digits;
  }
  if (digits != 2 * id.size()) return {};
  return id;
}

}  // namespace clonedev
