#include "dm_clone/dm_clone_format.h"

#include <isa-l/crc.h>

namespace clonedev::dm_clone {

std::uint32_t checksum_of(BlockKind kind, std::span<const std::byte, kBlockBytes> block) {
  const auto rest = block.subspan(sizeof(Le32));
  // The library only reads, whatever its signature says.
  auto* const bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(rest.data()));
  const std::uint32_t crc = ::crc32_iscsi(bytes, static_cast<int>(rest.size()), ~std::uint32_t{0});
  return crc ^ static_cast<std::uint32_t>(kind);
}

}  // namespace clonedev::dm_clone
