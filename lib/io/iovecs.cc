#include "io/iovecs.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>

namespace clonedev {

std::size_t iov_length(std::span<const iovec> data) {
  std::size_t total = 0;
  for (const iovec& part : data) total += part.iov_len;
  return total;
}

std::vector<iovec> iov_slice(std::span<const iovec> data, std::size_t offset, std::size_t length) {
  std::vector<iovec> slice;
  for (const iovec& part : data) {
    if (length == 0) break;
    if (offset >= part.iov_len) {
      offset -= part.iov_len;
      continue;
    }
    const std::size_t take = std::min(part.iov_len - offset, length);
    slice.push_back({static_cast<std::byte*>(part.iov_base) + offset, take});
    offset = 0;
    length -= take;
  }
  assert(length == 0 && "slice beyond the end of an iovec list");
  return slice;
}

void iov_copy_out(std::span<const iovec> from, std::span<std::byte> to) {
  for (const iovec& part : from) {
    const std::size_t take = std::min(part.iov_len, to.size());
    if (take == 0) continue;
    std::memcpy(to.data(), part.iov_base, take);
    to = to.subspan(take);
  }
  assert(to.empty());
}

void iov_copy_in(std::span<const std::byte> from, std::span<const iovec> to) {
  for (const iovec& part : to) {
    const std::size_t take = std::min(part.iov_len, from.size());
    if (take == 0) continue;
    std::memcpy(part.iov_base, from.data(), take);
    from = from.subspan(take);
  }
  assert(from.empty());
}

void iov_zero(std::span<const iovec> data) {
  for (const iovec& part : data) {
    if (part.iov_len) std::memset(part.iov_base, 0, part.iov_len);
  }
}

bool iov_aligned(std::span<const iovec> data, std::size_t alignment) {
  return std::all_of(data.begin(), data.end(), [alignment](const iovec& part) {
    return (reinterpret_cast<std::uintptr_t>(part.iov_base) | part.iov_len) % alignment == 0;
  });
}

}  // namespace clonedev
