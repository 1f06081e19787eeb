#include "engine/private_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace clonedev {
namespace {

void make_with_parents(const std::filesystem::path& folder, mode_t mode) {
  if (::mkdir(folder.c_str(), mode) == 0 || errno != ENOENT || !folder.has_parent_path()) return;
  make_with_parents(folder.parent_path(), 0755);
  ::mkdir(folder.c_str(), mode);
}

std::string trouble_with(const struct stat& info) {
  if (info.st_uid != ::geteuid()) {
    return "belongs to uid " + std::to_string(info.st_uid) + ": remove it, or chown it";
  }
  if (S_ISLNK(info.st_mode)) return {};  // The modes of links say nothing.
  if (!S_ISDIR(info.st_mode)) return "is not a folder: remove it";
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "others may write it: chmod it to 0700";
  return {};
}

}  // namespace

Result<> make_private_folder(const std::string& path, const std::string& role) {
  make_with_parents(path, 0700);
  const int error = errno;
  struct stat named {};
  struct stat meant {};
  if (::lstat(path.c_str(), &named) != 0 || ::stat(path.c_str(), &meant) != 0) {
    return fail(Errc::unavailable, role + " " + path + ": cannot be made: " + std::strerror(error));
  }
  for (const auto& info : {named, meant}) {
    const std::string trouble = trouble_with(info);
    if (!trouble.empty()) return fail(Errc::refused, role + " " + path + ": " + trouble);
  }
  return {};
}

}  // namespace clonedev
