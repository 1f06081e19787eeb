#include "support/small_tmpfs.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

namespace clonedev {
namespace {

bool own_namespace() {
  static const bool made =
      ::unshare(CLONE_NEWNS) == 0 && ::mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) == 0;
  return made;
}

}  // namespace

std::unique_ptr<SmallTmpfs> SmallTmpfs::mount(const std::string& options) {
  std::string path = "/tmp/small-tmpfs-XXXXXX";
  if (!own_namespace() || !::mkdtemp(path.data())) return nullptr;
  if (::mount("small-tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) != 0) {
    ::rmdir(path.c_str());
    return nullptr;
  }
  return std::unique_ptr<SmallTmpfs>(new SmallTmpfs(path));
}

SmallTmpfs::~SmallTmpfs() {
  ::umount2(path_.c_str(), MNT_DETACH);
  ::rmdir(path_.c_str());
}

void SmallTmpfs::fill(bool full) {
  const std::string filler = path_ + "/filler";
  ::unlink(filler.c_str());
  if (!full) return;
  const int fd = ::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const char page[4096] = {};
  while (::write(fd, page, sizeof page) > 0) continue;
  ::close(fd);
}

}  // namespace clonedev
