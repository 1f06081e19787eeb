#include "engine/known_clones.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/private_folder.h"

namespace clonedev {
namespace {

std::string text_of(const KnownClone& clone) {
  return "uuid=" + clone.uuid + "\ndest=" + clone.dest + "\nmeta=" + clone.meta +
         "\nsequence=" + std::to_string(clone.sequence) + "\n" +
         (clone.grown_from ? "grown_from=" + std::to_string(clone.grown_from) + "\n" : "");
}

std::uint64_t number(const std::string& text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// A file name has 255 bytes at most. No escape begins with "%-".
std::string shortened(const std::string& file, const std::string& name) {
  constexpr std::size_t kMost = 200;
  if (file.size() <= kMost) return file;
  static constexpr char kDigits[] = "0123456789abcdef";
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits(name.data(), name.size()));
  std::string text = file.substr(0, kMost) + "%-";
  for (const unsigned char byte : digest.digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

bool sync(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  const bool synced = fd >= 0 && ::fsync(fd) == 0;
  if (fd >= 0) ::close(fd);
  return synced;
}

}  // namespace

std::string KnownClones::path(const std::string& name) const {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string file;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || c == '_' || c == '-' || (c == '.' && !file.empty())) {
      file += c;
    } else {
      file += '%';
      file += kDigits[byte >> 4];
      file += kDigits[byte & 15];
    }
  }
  return dir_ + "/" + shortened(file, name);
}

Result<std::optional<KnownClone>> KnownClones::find(const std::string& name) const {
  std::ifstream file(path(name));
  if (!file) {
    if (!std::filesystem::exists(path(name))) return std::nullopt;
    return fail(Errc::unavailable,
                "record " + path(name) + ": cannot be read: " + std::strerror(errno));
  }
  KnownClone clone;
  for (std::string line; std::getline(file, line);) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    const std::string key = line.substr(0, equals);
    const std::string value = line.substr(equals + 1);
    if (key == "uuid") clone.uuid = value;
    if (key == "dest") clone.dest = value;
    if (key == "meta") clone.meta = value;
    if (key == "sequence") clone.sequence = number(value);
    if (key == "grown_from") clone.grown_from = number(value);
  }
  if (clone.uuid.empty() || clone.dest.empty() || clone.meta.empty()) {
    return fail(Errc::damaged, "record " + path(name) +
                                   ": is not whole: compare it with the LUN's "
                                   "configuration and remove it, then the metadata decide");
  }
  return clone;
}

Result<> KnownClones::remember(const std::string& name, const KnownClone& clone) const {
  const std::string text = text_of(clone);
  const std::string target = path(name);
  std::ostringstream present;
  present << std::ifstream(target).rdbuf();
  if (present.str() == text) return {};
  if (auto made = make_private_folder(dir_, "folder of known clones"); !made) return made;
  // No record's name begins with a dot.
  const std::string fresh = dir_ + "/." + target.substr(dir_.size() + 1) + ".new";
  {
    std::ofstream file(fresh, std::ios::trunc);
    file << text;
    file.close();
    if (!file) {
      ::unlink(fresh.c_str());
      return fail(Errc::unavailable, "record " + target + ": cannot be written: is the disk full?");
    }
  }
  const bool kept = sync(fresh, O_RDONLY) && ::rename(fresh.c_str(), target.c_str()) == 0 &&
                    sync(dir_, O_RDONLY | O_DIRECTORY);
  if (kept) return {};
  return fail(Errc::unavailable,
              "record " + target + ": cannot be written: " + std::strerror(errno));
}

Result<> KnownClones::forget(const std::string& name) const {
  const bool removed = ::unlink(path(name).c_str()) == 0;
  if (!removed && errno == ENOENT) return {};
  if (removed && sync(dir_, O_RDONLY | O_DIRECTORY)) return {};
  return fail(Errc::unavailable,
              "record " + path(name) + ": cannot be removed: " + std::strerror(errno));
}

}  // namespace clonedev
