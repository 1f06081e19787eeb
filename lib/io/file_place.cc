#include "io/file_place.h"

#include <sys/stat.h>

namespace clonedev {

std::string place_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  const bool block = S_ISBLK(info.st_mode);
  return std::to_string(block ? info.st_rdev : info.st_dev) + ":" +
         std::to_string(block ? 0 : info.st_ino);
}

}  // namespace clonedev
