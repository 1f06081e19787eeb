#include "io/exclusive_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "io/block_identity.h"

namespace clonedev {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(50);
constexpr const char* kNoIdentity = "none";

// Files in use by this process: a second opener need not wait for what will not end.
class InUse {
 public:
  using Key = std::pair<dev_t, ino_t>;
  bool add(Key key) {
    const std::lock_guard lock(mutex_);
    return keys_.insert(key).second;
  }
  void remove(Key key) {
    const std::lock_guard lock(mutex_);
    keys_.erase(key);
  }

 private:
  std::mutex mutex_;
  std::set<Key> keys_;
};

InUse& in_use() {
  static InUse& files = *new InUse;  // Outlives every thread.
  return files;
}

std::string hex(std::span<const unsigned char> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

// Some network file systems have handles of 128 bytes, more than a superblock has room for.
std::string short_text(std::span<const unsigned char> bytes) {
  constexpr std::size_t kMost = 64;
  if (bytes.size() <= kMost) return hex(bytes);
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits(bytes.data(), bytes.size()));
  return "xxh128=" + hex(digest.digest);
}

std::string file_identity(int fd) {
  union {
    file_handle head;
    std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> room;
  } handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  int mount = 0;
  if (::name_to_handle_at(fd, "", &handle.head, &mount, AT_EMPTY_PATH) != 0) return kNoIdentity;
  return "file:" + std::to_string(handle.head.handle_type) + ":" +
         short_text({handle.head.f_handle, handle.head.handle_bytes});
}

bool any_nonzero(std::span<const std::byte> bytes) {
  return std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
}

}  // namespace

Error ExclusiveFile::error(Errc code, const std::string& what) const {
  return {make_error_code(code), role_ + " " + path_ + ": " + what};
}

Result<ExclusiveFile> ExclusiveFile::open(const std::string& path, const std::string& role,
                                          std::chrono::milliseconds patience) {
  return open(path, role, O_RDWR, patience);
}

Result<ExclusiveFile> ExclusiveFile::open_to_read(const std::string& path,
                                                  const std::string& role) {
  return open(path, role, O_RDONLY, std::chrono::milliseconds(0));
}

Result<ExclusiveFile> ExclusiveFile::open(const std::string& path, const std::string& role,
                                          int access, std::chrono::milliseconds patience) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return fail(Errc::unavailable, role + " " + path + ": " + std::strerror(errno));
  }
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return fail(Errc::refused,
                role + " " + path + ": is neither a regular file nor a block device");
  }
  const auto until = std::chrono::steady_clock::now() + patience;
  const int flags = access | O_CLOEXEC | (S_ISBLK(info.st_mode) ? O_EXCL : 0);
  int fd = ::open(path.c_str(), flags);
  // A killed predecessor's descriptor holds O_EXCL until its I/O has ended.
  while (fd < 0 && errno == EBUSY && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(kPoll);
    fd = ::open(path.c_str(), flags);
  }
  if (fd < 0) {
    const int code = errno;
    const bool busy = code == EBUSY;
    return fail(
        busy ? Errc::in_use : Errc::unavailable,
        role + " " + path + ": " +
            (busy ? "is in use (mounted, or held by another program)" : std::strerror(code)));
  }
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      until - std::chrono::steady_clock::now());
  return adopt(fd, path, role, info.st_mode & S_IFMT, std::max(left, std::chrono::milliseconds(0)));
}

Result<ExclusiveFile> ExclusiveFile::create(const std::string& path, const std::string& role,
                                            std::uint64_t size) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
  if (fd < 0) {
    return fail(Errc::unavailable,
                role + " " + path + ": cannot be created: " + std::strerror(errno));
  }
  auto file = adopt(fd, path, role, S_IFREG, std::chrono::milliseconds(0));
  if (!file) return file;
  if (auto sized = file->resize(size); !sized) {
    file->unlink();
    return fail(sized.error());
  }
  return file;
}

Result<ExclusiveFile> ExclusiveFile::adopt(int fd, const std::string& path, const std::string& role,
                                           mode_t kind, std::chrono::milliseconds patience) {
  ExclusiveFile file;
  file.fd_ = fd;
  file.path_ = path;
  file.role_ = role;
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail(file.error(Errc::unavailable, std::strerror(errno)));
  if ((info.st_mode & S_IFMT) != kind) {
    return fail(file.error(Errc::refused, "was replaced while it was opened: try again"));
  }
  file.block_device_ = S_ISBLK(info.st_mode);
  file.device_ = file.block_device_ ? info.st_rdev : info.st_dev;
  file.inode_ = file.block_device_ ? 0 : info.st_ino;
  if (auto locked = file.lock(patience); !locked) return fail(locked.error());
  return file;
}

Result<> ExclusiveFile::lock(std::chrono::milliseconds patience) {
  if (!in_use().add({device_, inode_})) {
    return fail(error(Errc::in_use, "is in use by another LUN of this daemon"));
  }
  registered_ = true;
  const auto until = std::chrono::steady_clock::now() + patience;
  struct flock whole {};
  const bool to_read = (::fcntl(fd_, F_GETFL) & O_ACCMODE) == O_RDONLY;
  whole.l_type = to_read ? F_RDLCK : F_WRLCK;
  whole.l_whence = SEEK_SET;
  while (::fcntl(fd_, F_OFD_SETLK, &whole) != 0) {
    if (errno != EAGAIN && errno != EACCES) {
      return fail(
          error(Errc::unavailable, std::string("cannot be locked: ") + std::strerror(errno)));
    }
    if (std::chrono::steady_clock::now() >= until) {
      return fail(error(Errc::in_use,
                        "is locked by another process, or I/O of a killed one is still in flight: "
                        "find it with lsof, or try again later"));
    }
    std::this_thread::sleep_for(kPoll);
  }
  return {};
}

ExclusiveFile::ExclusiveFile(ExclusiveFile&& other) noexcept { *this = std::move(other); }

ExclusiveFile& ExclusiveFile::operator=(ExclusiveFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(role_, other.role_);
  std::swap(block_device_, other.block_device_);
  std::swap(device_, other.device_);
  std::swap(inode_, other.inode_);
  std::swap(registered_, other.registered_);
  return *this;
}

ExclusiveFile::~ExclusiveFile() {
  if (fd_ >= 0) ::close(fd_);
  if (registered_) in_use().remove({device_, inode_});
}

std::uint64_t ExclusiveFile::size() const {
  const off_t end = ::lseek(fd_, 0, SEEK_END);  // For block devices st_size is 0.
  return end < 0 ? 0 : static_cast<std::uint64_t>(end);
}

std::string ExclusiveFile::identity() const {
  if (!block_device_) return file_identity(fd_);
  const std::string id = block_identity(device_);
  return id.empty() ? kNoIdentity : "blockdev:" + id;
}

bool ExclusiveFile::differ(const std::string& one, const std::string& other) {
  return one != other && one != kNoIdentity && other != kNoIdentity;
}

std::string ExclusiveFile::place() const {
  return std::to_string(device_) + ":" + std::to_string(inode_);
}

Result<bool> ExclusiveFile::holds_data() const {
  if (!block_device_) {
    const off_t data = ::lseek(fd_, 0, SEEK_DATA);
    if (data >= 0) return true;
    if (errno == ENXIO) return false;
    return fail(error(Errc::unavailable, std::string("SEEK_DATA: ") + std::strerror(errno)));
  }
  // What file systems, partition tables and RAID keep lies in the first and the last MiB; the rest
  // is sampled.
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  constexpr std::uint64_t kSamples = 62;
  std::vector<std::byte> chunk(kChunk);
  const std::uint64_t bytes = size();
  const std::uint64_t last = bytes > kChunk ? bytes - kChunk : 0;
  for (std::uint64_t i = 0; i <= kSamples + 1; ++i) {
    const bool edge = i == 0 || i == kSamples + 1;
    const std::uint64_t offset =
        last / (kSamples + 1) * i + (i == kSamples + 1 ? last % (kSamples + 1) : 0);
    const ssize_t got =
        ::pread(fd_, chunk.data(), edge ? kChunk : 65536, static_cast<off_t>(offset));
    if (got < 0)
      return fail(error(Errc::unavailable, std::string("read: ") + std::strerror(errno)));
    if (any_nonzero({chunk.data(), static_cast<std::size_t>(got)})) return true;
  }
  return false;
}

Result<> ExclusiveFile::resize(std::uint64_t bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) {
    return fail(error(errno == ENOSPC ? Errc::no_space : Errc::unavailable,
                      std::string("cannot be given its size: ") + std::strerror(errno)));
  }
  return {};
}

Result<> ExclusiveFile::reserve(std::uint64_t bytes) {
  if (block_device_) return {};
  if (::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0 || errno == EOPNOTSUPP) return {};
  return fail(error(errno == ENOSPC ? Errc::no_space : Errc::unavailable,
                    std::string("space cannot be reserved: ") + std::strerror(errno)));
}

Result<> ExclusiveFile::sync() const {
  if (::fsync(fd_) == 0) return {};
  return fail(error(Errc::unavailable, std::string("fsync: ") + std::strerror(errno)));
}

Result<> ExclusiveFile::sync_parent() const {
  const std::string folder = std::filesystem::path(path_).parent_path();
  const std::string parent = folder.empty() ? "." : folder;
  const int dir = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = dir >= 0 && ::fsync(dir) == 0;
  const int code = errno;
  if (dir >= 0) ::close(dir);
  if (synced) return {};
  return fail(
      error(Errc::unavailable, std::string("its folder cannot be synced: ") + std::strerror(code)));
}

Result<> ExclusiveFile::unlink() const {
  if (::unlink(path_.c_str()) == 0) return {};
  return fail(error(Errc::unavailable, std::string("cannot be removed: ") + std::strerror(errno)));
}

bool ExclusiveFile::still_named() const {
  struct stat info {};
  if (::stat(path_.c_str(), &info) != 0) return false;
  return block_device_ ? S_ISBLK(info.st_mode) && info.st_rdev == device_
                       : info.st_dev == device_ && info.st_ino == inode_;
}

}  // namespace clonedev
