// Finds the bytes of a buffer that nobody has filled, where whoever fills it does not tell: a word
// that nobody can guess is put into every 512 bytes and at the end, and must be gone afterwards.
// libiscsi counts no bytes: a target that says GOOD after half the data would pass for a success.
//
// Costs a cache line for every 512 bytes. A right answer is taken for a missing one once in 2^64.
//
// Units: bytes. Thread: any, one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace clonedev {

class ReadMarks {
 public:
  // `word` is a fresh random number; the buffer has 8 bytes or more and outlives the marks.
  ReadMarks(std::uint64_t word, std::span<std::byte> buffer);
  bool gone() const;

 private:
  std::uint64_t word_;
  std::span<std::byte> buffer_;
};

}  // namespace clonedev
