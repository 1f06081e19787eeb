#include "engine/live_dir.h"

#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <cerrno>
#include <cstring>

#include "engine/private_folder.h"

namespace clonedev {
namespace {

// A share of the memory; only what mixed pages need is ever used (64 MiB for a TiB at worst).
constexpr const char* kMountOptions = "size=20%,mode=0700";

bool own_tmpfs(const std::string& dir) {
  struct stat here {};
  struct stat parent {};
  struct statfs fs {};
  return ::stat(dir.c_str(), &here) == 0 && ::stat((dir + "/..").c_str(), &parent) == 0 &&
         here.st_dev != parent.st_dev && ::statfs(dir.c_str(), &fs) == 0 &&
         fs.f_type == TMPFS_MAGIC;
}

}  // namespace

Result<std::string> live_dir(const Site& site) {
  const std::string dir = site.run_dir + "/live";
  if (auto made = make_private_folder(dir, "live map folder"); !made) return fail(made.error());
  if (!site.mount_live_tmpfs || own_tmpfs(dir)) return dir;
  if (::mount("tcmu-clone", dir.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              kMountOptions) != 0) {
    return fail(
        Errc::unavailable,
        "live map folder " + dir + ": a tmpfs cannot be mounted there: " + std::strerror(errno));
  }
  return dir;
}

}  // namespace clonedev
