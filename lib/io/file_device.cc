#include "io/file_device.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "io/dio_alignment.h"
#include "io/iovecs.h"

namespace clonedev {
namespace {

constexpr std::size_t kMaxIovecs = 1024;  // IOV_MAX
constexpr std::size_t kMaxTransfer = std::size_t{64} << 20;
constexpr std::size_t kBounceChunk = std::size_t{1} << 20;
constexpr std::size_t kZeroChunk = std::size_t{64} << 10;

// In a file that is memory a transfer is a copy. io_uring has a thread of its own do a write, since
// tmpfs makes no promise not to wait, and to wake two threads takes many times as long as to copy
// a little.
constexpr std::size_t kMostAtOnce = std::size_t{64} << 10;

bool in_memory(int fd) {
  struct statfs where {};
  return ::fstatfs(fd, &where) == 0 && where.f_type == TMPFS_MAGIC;
}

bool unsupported(int result) { return result == -EOPNOTSUPP || result == -ENOSYS; }

alignas(4096) constinit std::byte zeroes[kZeroChunk] = {};

}  // namespace

FileDevice::FileDevice(Reactor& reactor, BufferPool& pool, ExclusiveFile file, std::uint64_t size)
    : reactor_(reactor),
      pool_(pool),
      file_(std::move(file)),
      size_(size),
      in_memory_(!file_.block_device() && in_memory(file_.fd())) {
  choose_mode();
}

void FileDevice::choose_mode() {
  if (file_.block_device()) {
    ::fsync(file_.fd());  // Nothing of what others wrote through the cache may come back later.
    drop_page_cache();
  }
  const std::uint32_t alignment = dio_alignment(file_.fd());
  if (alignment == 0 || size_ % alignment != 0) return;
  const int flags = ::fcntl(file_.fd(), F_GETFL);
  if (::fcntl(file_.fd(), F_SETFL, flags | O_DIRECT) != 0) return;
  if (direct_works(alignment)) {
    direct_ = true;
    sector_size_ = alignment;
  } else {
    ::fcntl(file_.fd(), F_SETFL, flags);
  }
}

bool FileDevice::direct_works(std::size_t alignment) const {
  void* memory = nullptr;
  if (::posix_memalign(&memory, alignment, alignment) != 0) return false;
  const ssize_t got = ::pread(file_.fd(), memory, alignment, 0);
  std::free(memory);
  return got >= 0;
}

Error FileDevice::error(const char* what, int code, Errc otherwise) const {
  const Errc kind = code == ENOSPC || code == EDQUOT ? Errc::no_space : otherwise;
  return {make_error_code(kind), file_.path() + ": " + what + ": " + std::strerror(code)};
}

Task<Result<>> FileDevice::read(std::uint64_t offset, std::span<const iovec> data) {
  if (direct_ && !iov_aligned(data, sector_size_)) return bounce(Direction::read, offset, data);
  return transfer(Direction::read, offset, data);
}

Task<Result<>> FileDevice::write(std::uint64_t offset, std::span<const iovec> data) {
  if (direct_ && !iov_aligned(data, sector_size_)) return bounce(Direction::write, offset, data);
  return transfer(Direction::write, offset, data);
}

Task<Result<>> FileDevice::transfer(Direction direction, std::uint64_t offset,
                                    std::span<const iovec> data) {
  const bool reading = direction == Direction::read;
  const std::size_t total = iov_length(data);
  std::size_t done = 0;
  const bool little = in_memory_ && total <= kMostAtOnce;
  if (little) co_await reactor_.turn();
  while (done < total) {
    const std::vector<iovec> rest = iov_slice(data, done, std::min(total - done, kMaxTransfer));
    const auto count = static_cast<unsigned>(std::min(rest.size(), kMaxIovecs));
    int result = 0;
    if (little && (reading || changing_ == 0)) {
      result = transfer_at_once(direction, offset + done, {rest.data(), count});
    } else if (reading) {
      result = co_await reactor_.readv(file_.fd(), rest.data(), count, offset + done);
    } else {
      ++changing_;
      result = co_await reactor_.writev(file_.fd(), rest.data(), count, offset + done);
      --changing_;
    }
    if (result == -EINTR || result == -EAGAIN) continue;
    if (result == 0) result = -EIO;  // Nothing there although the file was long enough: it shrank.
    if (result < 0) {
      co_return fail(error(reading ? "read" : "write", -result,
                           reading ? Errc::destination_read : Errc::destination_write));
    }
    done += static_cast<std::size_t>(result);
  }
  co_return Result<>{};
}

int FileDevice::transfer_at_once(Direction direction, std::uint64_t offset,
                                 std::span<const iovec> data) const {
  const auto count = static_cast<int>(data.size());
  const auto at = static_cast<off_t>(offset);
  const ssize_t result = direction == Direction::read
                             ? ::preadv(file_.fd(), data.data(), count, at)
                             : ::pwritev(file_.fd(), data.data(), count, at);
  return result < 0 ? -errno : static_cast<int>(result);
}

Task<Result<>> FileDevice::bounce(Direction direction, std::uint64_t offset,
                                  std::span<const iovec> data) {
  const std::size_t total = iov_length(data);
  if (total == 0) co_return Result<>{};
  const BufferPool::Buffer buffer =
      co_await pool_.acquire(std::min(total, kBounceChunk), BufferPool::Use::command);
  for (std::size_t done = 0; done < total;) {
    const std::size_t length = std::min(total - done, kBounceChunk);
    const std::span<std::byte> chunk = buffer.span().first(length);
    const std::vector<iovec> part = iov_slice(data, done, length);
    if (direction == Direction::write) iov_copy_out(part, chunk);
    const iovec whole = to_iovec(chunk);
    const std::span<const iovec> list(&whole, 1);
    auto moved = co_await transfer(direction, offset + done, list);
    if (!moved) co_return moved;
    if (direction == Direction::read) iov_copy_in(chunk, part);
    done += length;
  }
  co_return Result<>{};
}

Task<Result<>> FileDevice::flush() {
  const int result = co_await reactor_.fdatasync(file_.fd());
  if (result < 0) co_return fail(error("fdatasync", -result, Errc::destination_write));
  co_return Result<>{};
}

Task<Result<bool>> FileDevice::try_fallocate(int mode, bool& supported, Extent extent) {
  if (!supported || extent.empty()) co_return extent.empty();
  int result = -EINTR;
  ++changing_;
  while (result == -EINTR) {
    result = co_await reactor_.fallocate(file_.fd(), mode | FALLOC_FL_KEEP_SIZE, extent.offset,
                                         extent.length);
  }
  --changing_;
  if (result == 0) co_return true;
  if (!unsupported(result)) co_return fail(error("fallocate", -result, Errc::destination_write));
  supported = false;
  co_return false;
}

// On a block device PUNCH_HOLE is a zeroing unmap, never a discard that leaves what was there
// (blkdev_fallocate: BLKDEV_ZERO_NOFALLBACK).
Task<Result<>> FileDevice::zero(Extent extent, bool deallocate) {
  if (deallocate) {
    auto punched = co_await try_fallocate(FALLOC_FL_PUNCH_HOLE, can_punch_, extent);
    if (!punched) co_return fail(punched.error());
    if (*punched) co_return Result<>{};
  }
  auto zeroed = co_await try_fallocate(FALLOC_FL_ZERO_RANGE, can_zero_range_, extent);
  if (!zeroed) co_return fail(zeroed.error());
  if (*zeroed) co_return Result<>{};
  co_return co_await write_zeroes(extent);
}

Task<Result<>> FileDevice::discard(Extent extent) {
  auto punched = co_await try_fallocate(FALLOC_FL_PUNCH_HOLE, can_punch_, extent);
  if (!punched) co_return fail(punched.error());
  co_return Result<>{};
}

Task<Result<>> FileDevice::write_zeroes(Extent extent) {
  while (!extent.empty()) {
    const std::uint64_t length = std::min<std::uint64_t>(extent.length, kBounceChunk);
    std::vector<iovec> list;
    for (std::uint64_t left = length; left > 0; left -= list.back().iov_len) {
      list.push_back({zeroes, static_cast<std::size_t>(std::min<std::uint64_t>(left, kZeroChunk))});
    }
    const std::span<const iovec> data(list);
    auto written = co_await transfer(Direction::write, extent.offset, data);
    if (!written) co_return written;
    extent = {extent.offset + length, extent.length - length};
  }
  co_return Result<>{};
}

Result<> FileDevice::lengthen(std::uint64_t size) {
  if (file_.block_device()) {
    if (file_.size() >= size) {
      size_ = std::max(size_.load(), size);  // It may have become larger since it was opened.
      return {};
    }
    return fail(file_.error(Errc::refused, "has only " + std::to_string(file_.size()) + " bytes, " +
                                               std::to_string(size) + " are needed"));
  }
  if (file_.size() < size) {
    if (auto resized = file_.resize(size); !resized) return resized;
  }
  size_ = std::max(size_.load(), size);
  return {};
}

Result<> FileDevice::grow(std::uint64_t size) {
  if (auto longer = lengthen(size); !longer) return longer;
  return file_.reserve(size);
}

Result<> FileDevice::cut(std::uint64_t size) {
  if (file_.block_device() || file_.size() <= size) return {};
  size_ = std::min(size_.load(), size);
  return file_.resize(size);
}

void FileDevice::drop_page_cache() const {
  if (file_.block_device()) ::posix_fadvise(file_.fd(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace clonedev
