#include "scsi/data.h"

#include <algorithm>
#include <cstring>

namespace clonedev::scsi {
namespace {

// Calls visit(piece of memory, offset in the range) for what the memory has of a range, until it
// returns false.
template <class Visit>
void for_each_piece(std::span<const iovec> pieces, std::size_t offset, std::size_t length,
                    Visit visit) {
  std::size_t done = 0;
  for (const iovec& piece : pieces) {
    if (done == length) return;
    if (offset >= piece.iov_len) {
      offset -= piece.iov_len;
      continue;
    }
    const std::size_t part = std::min(piece.iov_len - offset, length - done);
    if (!visit(std::span(static_cast<const std::byte*>(piece.iov_base) + offset, part), done)) {
      return;
    }
    done += part;
    offset = 0;
  }
}

}  // namespace

std::size_t length_of(std::span<const iovec> pieces) {
  std::size_t length = 0;
  for (const iovec& piece : pieces) length += piece.iov_len;
  return length;
}

void answer(std::span<const std::uint8_t> page, std::size_t allocation,
            std::span<const iovec> pieces) {
  page = page.first(std::min(page.size(), allocation));
  for (const iovec& piece : pieces) {
    auto* const out = static_cast<std::uint8_t*>(piece.iov_base);
    const std::size_t copied = std::min(page.size(), piece.iov_len);
    if (copied > 0) std::memcpy(out, page.data(), copied);
    if (piece.iov_len > copied) std::memset(out + copied, 0, piece.iov_len - copied);
    page = page.subspan(copied);
  }
}

std::vector<std::uint8_t> gather(std::span<const iovec> pieces, std::size_t count) {
  std::vector<std::uint8_t> bytes(std::min(count, length_of(pieces)));
  copy_from(pieces, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

void copy_from(std::span<const iovec> pieces, std::size_t offset, std::span<std::byte> out) {
  for_each_piece(pieces, offset, out.size(), [&](std::span<const std::byte> part, std::size_t at) {
    std::copy(part.begin(), part.end(), out.begin() + static_cast<std::ptrdiff_t>(at));
    return true;
  });
}

void or_from(std::span<const iovec> pieces, std::size_t offset, std::span<std::byte> out) {
  for_each_piece(pieces, offset, out.size(), [&](std::span<const std::byte> part, std::size_t at) {
    for (std::size_t i = 0; i < part.size(); ++i) out[at + i] |= part[i];
    return true;
  });
}

std::size_t first_difference(std::span<const iovec> pieces, std::size_t offset,
                             std::span<const std::byte> bytes) {
  std::size_t same = bytes.size();
  for_each_piece(pieces, offset, bytes.size(),
                 [&](std::span<const std::byte> part, std::size_t at) {
                   const auto ours = bytes.subspan(at, part.size());
                   const auto differs = std::mismatch(part.begin(), part.end(), ours.begin());
                   if (differs.first == part.end()) return true;
                   same = at + static_cast<std::size_t>(differs.first - part.begin());
                   return false;
                 });
  return same;
}

}  // namespace clonedev::scsi
