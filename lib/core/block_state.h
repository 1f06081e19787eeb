// The three states of a block, and the kinds of a page of states.
#pragma once

#include <cstdint>

namespace clonedev {

// Two bits in memory and on disk; 3 is not used and is damage where it is found.
enum class BlockState : std::uint8_t {
  origin = 0,       // Never touched: the origin has its data.
  zero = 1,         // Reads as zeroes; what the destination holds there does not matter.
  destination = 2,  // The destination has its data.
};

// A page whose blocks all have one state needs no words.
enum class PageKind : std::uint8_t { origin = 0, zero = 1, destination = 2, mixed = 3 };

constexpr PageKind uniform(BlockState state) { return static_cast<PageKind>(state); }
constexpr BlockState state_of(PageKind kind) { return static_cast<BlockState>(kind); }

// One word with the same state in all of its 32 places.
constexpr std::uint64_t repeated(BlockState state) {
  return 0x5555'5555'5555'5555u * static_cast<std::uint64_t>(state);
}

}  // namespace clonedev
