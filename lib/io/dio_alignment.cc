#include "io/dio_alignment.h"

#include <fcntl.h>
#include <linux/stat.h>  // Not <sys/stat.h>: glibc's struct statx may be older.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>

namespace clonedev {
namespace {

constexpr std::uint32_t kSafe = 4096;

// Of the disk that a file system, or the block device itself, lies on.
std::uint32_t logical_block_size(std::uint32_t major, std::uint32_t minor) {
  const std::string dir =
      "/sys/dev/block/" + std::to_string(major) + ":" + std::to_string(minor) + "/";
  for (const char* queue : {"queue/", "../queue/"}) {  // A partition has its disk's.
    std::ifstream file(dir + queue + "logical_block_size");
    if (std::uint32_t size = 0; file >> size) return size;
  }
  return kSafe;
}

}  // namespace

std::uint32_t dio_alignment(int fd) {
  struct statx info {};
  if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_DIOALIGN, &info) != 0) {
    return kSafe;
  }
  std::uint32_t need = 0;
  if (info.stx_mask & STATX_DIOALIGN) {
    if (info.stx_dio_offset_align == 0) return 0;
    need = std::max(info.stx_dio_offset_align, info.stx_dio_mem_align);
  } else {
    const bool block = (info.stx_mode & S_IFMT) == S_IFBLK;
    need = logical_block_size(block ? info.stx_rdev_major : info.stx_dev_major,
                              block ? info.stx_rdev_minor : info.stx_dev_minor);
  }
  return need <= 512 ? 512 : kSafe;
}

}  // namespace clonedev
