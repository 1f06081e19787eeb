/* Makes disks of a User-Mode Linux guest volatile: preloaded into linux.uml, it remembers what
 * every write since the last flush has overwritten, so that whoever kills the guest can take writes
 * back, any of them (tests/cuts/volatile_disk.py). A flush of the guest forgets, which is all that
 * it does: the host does not lose power.
 *
 * The guest reaches such a disk as a loop device on a file of hostfs: that writes through, and a
 * FLUSH becomes an fsync here. (Through the disks of its own, /dev/ubdX, no flush ever arrives:
 * Linux 6.1 drops it in ubd_submit_request(), where a flush has no segments and do_io() is called
 * once a segment.)
 *
 * A file is a volatile disk when CLONE_VOLATILE_DISKS, paths separated by colons, names it. Beside
 * each a file PATH.undo takes one record a write: offset and length, 64 bits each, then the bytes
 * that were there. A record is complete before its write begins; one cut short by the kill belongs
 * to a write that was never made.
 *
 * The guest's kernel is one thread that is not preempted in here; so nothing is locked. Nothing is
 * allocated either: linux.uml has its own idea of malloc.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { kMostDisks = 8, kPiece = 64 * 1024 };

static struct {
  dev_t device;
  ino_t inode;
  int undo;
} disks[kMostDisks];
static int disk_count;

static void add_disk(const char* path, size_t length) {
  char undo[PATH_MAX];
  struct stat info;
  if (disk_count == kMostDisks || length + sizeof ".undo" > sizeof undo) abort();
  memcpy(undo, path, length);
  undo[length] = '\0';
  if (stat(undo, &info) != 0) abort();
  strcpy(undo + length, ".undo");
  const int fd = open(undo, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) abort();
  disks[disk_count].device = info.st_dev;
  disks[disk_count].inode = info.st_ino;
  disks[disk_count++].undo = fd;
}

__attribute__((constructor)) static void find_disks(void) {
  const char* path = getenv("CLONE_VOLATILE_DISKS");
  while (path && *path) {
    const size_t length = strcspn(path, ":");
    add_disk(path, length);
    path += length;
    if (*path == ':') ++path;
  }
}

/* The undo file of what fd has open, -1 for what is no volatile disk. */
static int undo_of(int fd) {
  struct stat info;
  if (disk_count == 0 || fstat(fd, &info) != 0) return -1;
  for (int i = 0; i < disk_count; ++i) {
    if (disks[i].device == info.st_dev && disks[i].inode == info.st_ino) return disks[i].undo;
  }
  return -1;
}

/* Records what the range holds now. A disk that cannot promise to forget must not take the write.
 */
static int remember(int undo, int fd, uint64_t offset, uint64_t length) {
  static char old[kPiece];
  while (length > 0) {
    const size_t piece = length < kPiece ? (size_t)length : kPiece;
    const ssize_t got = syscall(SYS_pread64, fd, old, piece, (off_t)offset);
    if (got <= 0) return -1;
    uint64_t head[2] = {offset, (uint64_t)got};
    const struct iovec parts[2] = {{head, sizeof head}, {old, (size_t)got}};
    if (writev(undo, parts, 2) != (ssize_t)sizeof head + got) return -1;
    offset += (uint64_t)got;
    length -= (uint64_t)got;
  }
  return 0;
}

EXPORT ssize_t pwrite64(int fd, const void* data, size_t length, off_t offset) {
  const int undo = undo_of(fd);
  if (undo >= 0 && remember(undo, fd, (uint64_t)offset, length) != 0) {
    errno = EIO;
    return -1;
  }
  return syscall(SYS_pwrite64, fd, data, length, offset);
}

EXPORT int fallocate64(int fd, int mode, off_t offset, off_t length) {
  const int undo = undo_of(fd);
  if (undo >= 0 && remember(undo, fd, (uint64_t)offset, (uint64_t)length) != 0) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

EXPORT int fsync(int fd) {
  const int undo = undo_of(fd);
  return undo >= 0 ? ftruncate(undo, 0) : 0;
}

EXPORT int fdatasync(int fd) { return fsync(fd); }
