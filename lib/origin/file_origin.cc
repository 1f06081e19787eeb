#include "origin/file_origin.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/block_identity.h"
#include "io/iovecs.h"
#include "origin/origin_samples.h"

namespace clonedev {
namespace {

constexpr std::uint64_t kDirectUnit = 4096;
constexpr std::size_t kMostAtOnce = std::size_t{64} << 20;

std::uint64_t nanoseconds(std::int64_t seconds, std::int64_t rest) {
  return static_cast<std::uint64_t>(seconds) * 1'000'000'000 + static_cast<std::uint64_t>(rest);
}

bool gone(int code) { return code == ENXIO || code == ENODEV || code == ESTALE; }

}  // namespace

FileOrigin::~FileOrigin() {
  if (direct_fd_ >= 0) ::close(direct_fd_);
  if (fd_ >= 0) ::close(fd_);
}

Error FileOrigin::error(Errc code, const std::string& what) {
  last_error_ = fmt::format("origin {}: {}", path_, what);
  return {make_error_code(code), last_error_};
}

Task<Result<>> FileOrigin::open() {
  auto opened = open_path();
  if (opened) opened = measure();
  if (opened) open_direct();
  state_ = opened ? State::connected : State::down;
  co_return opened;
}

Result<> FileOrigin::open_path() {
  // Looked at before it is opened: opening a FIFO waits for its writer.
  struct stat info {};
  if (::stat(path_.c_str(), &info) != 0) {
    const bool missing = errno == ENOENT;
    return fail(error(Errc::unavailable,
                      missing ? "there is no such file or device: check the path, and whether its "
                                "file system is mounted"
                              : std::strerror(errno)));
  }
  if (auto judged = judge_kind(info.st_mode); !judged) return judged;
  // Not to wait even if it became a FIFO a moment ago; measure() looks again, at what was opened.
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) {
    return fail(
        error(Errc::unavailable, fmt::format("cannot be opened: {}", std::strerror(errno))));
  }
  ::fcntl(fd_, F_SETFL, 0);  // An io_uring would give EAGAIN instead of waiting for the disk.
  return {};
}

Result<> FileOrigin::judge_kind(unsigned mode) {
  if (S_ISDIR(mode)) {
    return fail(error(Errc::refused, "is a directory: give a disk image or a block device"));
  }
  if (!S_ISREG(mode) && !S_ISBLK(mode)) {
    return fail(error(Errc::refused, "is neither a regular file nor a block device"));
  }
  return {};
}

Result<> FileOrigin::measure() {
  struct stat info {};
  const auto no_size = [this] {
    return fail(error(Errc::unavailable, fmt::format("has no size: {}", std::strerror(errno))));
  };
  if (::fstat(fd_, &info) != 0) return no_size();
  if (auto judged = judge_kind(info.st_mode); !judged) return judged;
  const off_t end = ::lseek(fd_, 0, SEEK_END);  // st_size of a block device is 0.
  if (end < 0) return no_size();
  if (end == 0) return fail(error(Errc::refused, "is empty: there is nothing to clone"));
  size_ = static_cast<std::uint64_t>(end);
  block_device_ = S_ISBLK(info.st_mode);
  device_ = info.st_rdev;
  mtime_ns_ = nanoseconds(info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  if (!block_device_) holes_.emplace(fd_, size_);
  return {};
}

void FileOrigin::open_direct() {
  if (size_ < kDirectUnit) return;
  // Through /proc, so that it is the same inode whatever the path says by now.
  const std::string self = fmt::format("/proc/self/fd/{}", fd_);
  direct_fd_ = ::open(self.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (direct_fd_ < 0) return;
  alignas(kDirectUnit) std::byte probe[kDirectUnit];
  if (::pread(direct_fd_, probe, sizeof probe, 0) == sizeof probe) direct_works_ = true;
}

Task<Result<std::string>> FileOrigin::identity() {
  const auto inside = gate_.enter();
  if (block_device_) {
    const std::string known = block_identity(device_);
    if (!known.empty()) co_return fmt::format("blockdev:{};size={}", known, size_);
  }
  auto digest = co_await sample_digest(*this);
  if (!digest) co_return fail(digest.error());
  if (block_device_) co_return fmt::format("blockdev:size={};samples={}", size_, *digest);
  co_return fmt::format("file:size={};mtime={};samples={}", size_, mtime_ns_, *digest);
}

// Cuts the piece to what one descriptor can do, and says which.
int FileOrigin::choose(std::uint64_t offset, iovec& piece) const {
  piece.iov_len = std::min(piece.iov_len, kMostAtOnce);
  const auto address = reinterpret_cast<std::uintptr_t>(piece.iov_base);
  const std::size_t whole = piece.iov_len / kDirectUnit * kDirectUnit;
  if (!direct_works_ || whole == 0 || offset % kDirectUnit != 0 || address % kDirectUnit != 0) {
    return fd_;
  }
  piece.iov_len = whole;
  return direct_fd_;
}

Task<Result<OriginBytes>> FileOrigin::read(std::uint64_t offset, std::span<std::byte> room) {
  const auto inside = gate_.enter();
  for (std::span<std::byte> left = room; !left.empty();) {
    if (state_ != State::connected) co_return fail(not_open());
    iovec piece = to_iovec(left);
    const int fd = choose(offset, piece);
    const int got = co_await reactor_.readv(fd, &piece, 1, offset);
    if (got == -EINTR) continue;
    // The descriptor stays open: others may have requests under way on it.
    if (got == -EINVAL && fd == direct_fd_ && std::exchange(direct_works_, false)) continue;
    if (got <= 0) co_return fail(read_error(got, offset));
    offset += static_cast<std::uint64_t>(got);
    left = left.subspan(static_cast<std::size_t>(got));
  }
  if (changed_in_use()) {
    state_ = State::down;
    co_return fail(error(Errc::unavailable, "was written while it was in use"));
  }
  co_return OriginBytes{room};
}

// Somebody boots from the golden image: what was read may be a mixture already. Asked after each
// read, from what the kernel knows: no server of a network file system is waited for.
bool FileOrigin::changed_in_use() const {
  if (block_device_) return false;
  struct statx now {};
  const int flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  if (::statx(fd_, "", flags, STATX_MTIME | STATX_SIZE, &now) != 0) return false;
  return nanoseconds(now.stx_mtime.tv_sec, now.stx_mtime.tv_nsec) != mtime_ns_ ||
         now.stx_size != size_;
}

Error FileOrigin::not_open() {
  return last_error_.empty() ? error(Errc::unavailable, "is not open")
                             : Error{make_error_code(Errc::unavailable), last_error_};
}

Error FileOrigin::read_error(int result, std::uint64_t offset) {
  const std::string what =
      result == 0 ? "ends early: it has become shorter" : std::strerror(-result);
  const bool lost = result == 0 || gone(-result);
  if (lost && state_ == State::connected) state_ = State::down;
  return error(lost ? Errc::unavailable : Errc::origin_read,
               fmt::format("read at {}: {}", offset, what));
}

Task<Result<std::vector<OriginExtent>>> FileOrigin::extents(Extent range) {
  if (state_ != State::connected) co_return fail(not_open());
  if (holes_) co_return holes_->lookup(range);
  co_return std::vector<OriginExtent>{{range, false}};
}

Task<> FileOrigin::close() {
  state_ = State::closed;
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
