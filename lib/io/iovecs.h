// Small helpers on scatter-gather lists. Units: bytes. No ownership.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

namespace clonedev {

std::size_t iov_length(std::span<const iovec> data);
// The part [offset, offset + length) of the list, which must hold it.
std::vector<iovec> iov_slice(std::span<const iovec> data, std::size_t offset, std::size_t length);
void iov_copy_out(std::span<const iovec> from, std::span<std::byte> to);  // fills `to`
void iov_copy_in(std::span<const std::byte> from, std::span<const iovec> to);
void iov_zero(std::span<const iovec> data);
// Every base and length is a multiple of `alignment`.
bool iov_aligned(std::span<const iovec> data, std::size_t alignment);

inline iovec to_iovec(std::span<std::byte> bytes) { return {bytes.data(), bytes.size()}; }
// To be written from, never read into.
inline iovec to_source(std::span<const std::byte> bytes) {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

}  // namespace clonedev
