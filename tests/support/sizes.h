// Sizes that tests count in, in bytes.
#pragma once

#include <cstdint>

namespace clonedev {

inline constexpr std::uint64_t k4K = 4096;
inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

}  // namespace clonedev
