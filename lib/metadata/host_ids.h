// Random and well-known 16-byte identities: of clones, attachments, boots and machines.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "clonedev/error.h"

namespace clonedev {

using Id = std::array<std::uint8_t, 16>;

// Which run of which machine this is. They tell the death of the daemon from a power loss (I13).
struct HostIds {
  Id boot{};
  Id machine{};
};

// From /proc/sys/kernel/random/boot_id and /etc/machine-id; Errc::unavailable without them.
Result<HostIds> read_host_ids();

// From the kernel's random generator.
Id random_id();

// "01234567-89ab-cdef-0123-456789abcdef"
std::string id_text(const Id& id);
// Back from 32 hexadecimal digits, with hyphens or without; nothing from anything else.
std::optional<Id> id_from_text(std::string_view text);

}  // namespace clonedev
