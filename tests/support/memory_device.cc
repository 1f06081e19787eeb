#include "support/memory_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string_view>

#include "io/iovecs.h"

namespace clonedev {

Result<> MemoryDevice::check(std::uint64_t offset, std::uint64_t length) const {
  if (offset % sector_size_ != 0 || length % sector_size_ != 0) {
    return fail(Errc::destination_write, fmt::format("memory device: {}+{} is not aligned to {}",
                                                     offset, length, sector_size_));
  }
  if (offset > size_ || length > size_ - offset) {
    return fail(Errc::destination_write,
                fmt::format("memory device: {}+{} is beyond its end {}", offset, length, size_));
  }
  return {};
}

MemoryDevice::Page& MemoryDevice::writable(std::uint64_t page) {
  std::shared_ptr<Page>& slot = pages_[page];
  if (!slot) {
    slot = std::make_shared<Page>();
  } else if (slot.use_count() > 1) {
    slot = std::make_shared<Page>(*slot);
  }
  return *slot;
}

void MemoryDevice::peek(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const std::size_t in_page = offset % kPage;
    const std::size_t take = std::min(to.size(), kPage - in_page);
    const auto it = pages_.find(offset / kPage);
    if (it == pages_.end()) {
      std::memset(to.data(), 0, take);
    } else {
      std::memcpy(to.data(), it->second->data() + in_page, take);
    }
    to = to.subspan(take);
    offset += take;
  }
}

void MemoryDevice::poke(std::uint64_t offset, std::span<const std::byte> from) {
  while (!from.empty()) {
    const std::size_t in_page = offset % kPage;
    const std::size_t take = std::min(from.size(), kPage - in_page);
    const auto part = from.first(take);
    const auto zero = [](std::byte byte) { return byte == std::byte{0}; };
    if (pages_.contains(offset / kPage) || !std::ranges::all_of(part, zero)) {
      std::memcpy(writable(offset / kPage).data() + in_page, part.data(), take);
    }
    from = from.subspan(take);
    offset += take;
  }
}

std::vector<std::byte> MemoryDevice::bytes(Extent extent) const {
  std::vector<std::byte> result(extent.length);
  peek(extent.offset, result);
  return result;
}

std::uint64_t MemoryDevice::fingerprint() const {
  std::uint64_t mixed = size_;
  for (const auto& [number, page] : pages_) {
    const std::string_view bytes(reinterpret_cast<const char*>(page->data()), page->size());
    mixed = (mixed ^ std::hash<std::string_view>()(bytes)) * 0x9E3779B97F4A7C15u + number;
  }
  return mixed;
}

Task<Result<>> MemoryDevice::read(std::uint64_t offset, std::span<const iovec> data) {
  if (const auto fits = check(offset, iov_length(data)); !fits) co_return fits;
  for (const iovec& part : data) {
    peek(offset, {static_cast<std::byte*>(part.iov_base), part.iov_len});
    offset += part.iov_len;
  }
  co_return Result<>{};
}

Task<Result<>> MemoryDevice::write(std::uint64_t offset, std::span<const iovec> data) {
  if (const auto fits = check(offset, iov_length(data)); !fits) co_return fits;
  for (const iovec& part : data) {
    poke(offset, {static_cast<const std::byte*>(part.iov_base), part.iov_len});
    offset += part.iov_len;
  }
  co_return Result<>{};
}

Task<Result<>> MemoryDevice::flush() { co_return Result<>{}; }

Task<Result<>> MemoryDevice::zero(Extent extent, bool) {
  if (const auto fits = check(extent.offset, extent.length); !fits) co_return fits;
  const std::uint64_t end = extent.end();
  auto it = pages_.lower_bound(extent.offset / kPage);
  while (it != pages_.end() && it->first * kPage < end) {
    const std::uint64_t base = it->first * kPage;
    const std::uint64_t from = std::max(base, extent.offset) - base;
    const std::uint64_t to = std::min(base + kPage, end) - base;
    if (to - from == kPage) {
      it = pages_.erase(it);
      continue;
    }
    Page& page = writable(it->first);
    std::memset(page.data() + from, 0, to - from);
    ++it;
  }
  co_return Result<>{};
}

}  // namespace clonedev
