// The states of a block, and the kinds of a page of states.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace clonedev {

// Two bits in memory and on disk.
enum class BlockState : std::uint8_t {
  origin = 0,       // Never touched: the origin has its data.
  zero = 1,         // Reads as zeroes; what the destination holds there does not matter.
  destination = 2,  // The destination has its data.
  copied = 3,       // The same, and what it has is exactly what the origin has there.
};
inline constexpr std::size_t kBlockStates = 4;

// The words for them, in the order of their numbers: wherever a person or a dump names a state.
inline constexpr std::array<std::string_view, kBlockStates> kStateNames{"origin", "zero",
                                                                        "destination", "copied"};

constexpr std::string_view name_of(BlockState state) {
  return kStateNames[static_cast<std::size_t>(state)];
}
constexpr std::optional<BlockState> state_named(std::string_view name) {
  const auto it = std::find(kStateNames.begin(), kStateNames.end(), name);
  if (it == kStateNames.end()) return std::nullopt;
  return static_cast<BlockState>(it - kStateNames.begin());
}

// A page whose blocks all have one state needs no words.
enum class PageKind : std::uint8_t { origin = 0, zero = 1, destination = 2, copied = 3, mixed = 4 };

constexpr PageKind uniform(BlockState state) { return static_cast<PageKind>(state); }
constexpr BlockState state_of(PageKind kind) { return static_cast<BlockState>(kind); }

// Who has the data. `copied` adds knowledge to `destination` and takes nothing away: a reader or
// a writer need not tell them apart.
constexpr BlockState authority_of(BlockState state) {
  return state == BlockState::copied ? BlockState::destination : state;
}

// One word with the same state in all of its 32 places.
constexpr std::uint64_t repeated(BlockState state) {
  return 0x5555'5555'5555'5555u * static_cast<std::uint64_t>(state);
}

// authority_of() in all places of a word.
constexpr std::uint64_t authorities_of(std::uint64_t word) {
  return word & ~(word >> 1 & repeated(BlockState::zero));
}

}  // namespace clonedev
