// Parameter data between a command's pieces of memory and one's own.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace clonedev::scsi {

std::size_t length_of(std::span<const iovec> pieces);

// Copies what the initiator's ALLOCATION LENGTH admits of `page` and zeroes the rest of the memory,
// which holds an earlier command's data. The iovecs stay as they are.
void answer(std::span<const std::uint8_t> page, std::size_t allocation,
            std::span<const iovec> pieces);

// The first `count` bytes, fewer when the memory is shorter.
std::vector<std::uint8_t> gather(std::span<const iovec> pieces, std::size_t count);

// The bytes from `offset` on, as many as `out` has or fewer, combined into it.
void copy_from(std::span<const iovec> pieces, std::size_t offset, std::span<std::byte> out);
void or_from(std::span<const iovec> pieces, std::size_t offset, std::span<std::byte> out);

// Where `bytes` first differs from the memory from `offset` on, counted from the start of `bytes`;
// bytes.size() when it does not.
std::size_t first_difference(std::span<const iovec> pieces, std::size_t offset,
                             std::span<const std::byte> bytes);

}  // namespace clonedev::scsi
