// The three states of a block, and the kinds of a page of states.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace clonedev {

// Two bits in memory and on disk; 3 is not used and is damage where it is found.
enum class BlockState : std::uint8_t {
  origin = 0,       // Never touched: the origin has its data.
  zero = 1,         // Reads as zeroes; what the destination holds there does not matter.
  destination = 2,  // The destination has its data.
};

inline constexpr std::size_t kBlockStates = 3;

// The words for them, in the order of their numbers: wherever a person or a dump names a state.
inline constexpr std::array<std::string_view, kBlockStates> kStateNames{"origin", "zero",
                                                                        "destination"};

constexpr std::string_view name_of(BlockState state) {
  return kStateNames[static_cast<std::size_t>(state)];
}
constexpr std::optional<BlockState> state_named(std::string_view name) {
  const auto it = std::find(kStateNames.begin(), kStateNames.end(), name);
  if (it == kStateNames.end()) return std::nullopt;
  return static_cast<BlockState>(it - kStateNames.begin());
}

// A page whose blocks all have one state needs no words.
enum class PageKind : std::uint8_t { origin = 0, zero = 1, destination = 2, mixed = 3 };

constexpr PageKind uniform(BlockState state) { return static_cast<PageKind>(state); }
constexpr BlockState state_of(PageKind kind) { return static_cast<BlockState>(kind); }

// One word with the same state in all of its 32 places.
constexpr std::uint64_t repeated(BlockState state) {
  return 0x5555'5555'5555'5555u * static_cast<std::uint64_t>(state);
}

}  // namespace clonedev
