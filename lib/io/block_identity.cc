#include "io/block_identity.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>
#include <xxhash.h>

#include <algorithm>
#include <fstream>

namespace clonedev {
namespace {

constexpr std::size_t kLongest = 100;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const auto blank = [](char c) { return c == ' ' || c == '\0'; };
  while (!line.empty() && blank(line.back())) line.pop_back();
  return line;
}

// Vendors put blanks and worse into their serial numbers.
std::string printable(const std::string& id) {
  const bool plain = std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (plain && id.size() <= kLongest && id.find(';') == std::string::npos) return id;
  const XXH128_hash_t hash = XXH3_128bits(id.data(), id.size());
  return fmt::format("xxh-{:016x}{:016x}", hash.high64, hash.low64);
}

std::string whole_device(const std::string& dir) {
  if (const std::string uuid = first_line(dir + "/dm/uuid"); !uuid.empty()) {
    return "dm=" + printable(uuid);
  }
  for (const char* name : {"/device/wwid", "/wwid"}) {
    if (const std::string wwid = first_line(dir + name); !wwid.empty()) {
      return "wwn=" + printable(wwid);
    }
  }
  return "";
}

}  // namespace

std::string block_identity(dev_t device, const std::string& sysfs) {
  const std::string dir = fmt::format("{}/{}:{}", sysfs, major(device), minor(device));
  const std::string partition = first_line(dir + "/partition");
  if (partition.empty()) return whole_device(dir);
  const std::string parent = whole_device(dir + "/..");
  if (parent.empty()) return "";
  return fmt::format("{};part={}@{}", parent, partition, first_line(dir + "/start"));
}

}  // namespace clonedev
