// A file or block device that nobody else may be using: opened read-write and locked.
//
// The lock is an open-file-description lock (fcntl(2), F_OFD_SETLK): the kernel keeps it while
// I/O of a killed predecessor is still in flight on that description, so a lock that was granted
// says that no old write can land any more (I12). Block devices are opened O_EXCL too. Within the
// process a second opener is refused at once.
//
// Thread: any, one at a time. open() may wait; everything else is quick.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "clonedev/error.h"

namespace clonedev {

class ExclusiveFile {
 public:
  // `role` ("destination", "metadata") is for the sentences. Errc::unavailable: missing or not
  // openable; Errc::in_use: still locked when the patience ended; Errc::refused: neither a regular
  // file nor a block device.
  static Result<ExclusiveFile> open(const std::string& path, const std::string& role,
                                    std::chrono::milliseconds patience);
  // To look at only, whatever its permissions say of writing: shared with others who look, refused
  // at once (Errc::in_use) while somebody may write. Nothing but reading is done with it.
  static Result<ExclusiveFile> open_to_read(const std::string& path, const std::string& role);
  // A new regular file of that size, without blocks; fails if the path exists. Durable after
  // sync_parent().
  static Result<ExclusiveFile> create(const std::string& path, const std::string& role,
                                      std::uint64_t size);

  ExclusiveFile() = default;
  ExclusiveFile(ExclusiveFile&& other) noexcept;
  ExclusiveFile& operator=(ExclusiveFile&& other) noexcept;
  ~ExclusiveFile();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  bool block_device() const { return block_device_; }
  std::uint64_t size() const;
  // Equal text, equal device or file, also after a reboot: a block device's WWN, dm uuid or
  // partition uuid; a file's handle in its file system. "none" when the kernel knows nothing such.
  std::string identity() const;
  // Whether two of these are known to be of different devices or files.
  static bool differ(const std::string& one, const std::string& other);
  // Which inode or device this is right now: for telling three paths apart.
  std::string place() const;
  // Whether anything is stored there: a hole-free byte of a file, a non-zero byte in samples of a
  // block device.
  Result<bool> holds_data() const;
  Result<> resize(std::uint64_t size);
  // fallocate: later writes into the range meet no ENOSPC. Silently nothing on block devices.
  Result<> reserve(std::uint64_t size);
  // Makes content and size durable.
  Result<> sync() const;
  // Makes the name of a new file durable.
  Result<> sync_parent() const;
  // Removes the name.
  Result<> unlink() const;
  // Whether the path still names what is open here.
  bool still_named() const;
  // A sentence that says what is wrong with it.
  Error error(Errc code, const std::string& what) const;

 private:
  static Result<ExclusiveFile> open(const std::string& path, const std::string& role, int access,
                                    std::chrono::milliseconds patience);
  // `kind`: the S_IFMT bits that the descriptor must have.
  static Result<ExclusiveFile> adopt(int fd, const std::string& path, const std::string& role,
                                     mode_t kind, std::chrono::milliseconds patience);
  Result<> lock(std::chrono::milliseconds patience);

  int fd_ = -1;
  std::string path_;
  std::string role_;
  bool block_device_ = false;
  dev_t device_ = 0;  // Of the inode, or the block device's own number.
  ino_t inode_ = 0;   // 0 for block devices.
  bool registered_ = false;
};

}  // namespace clonedev
