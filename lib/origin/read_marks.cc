#include "origin/read_marks.h"

#include <cstring>

namespace clonedev {
namespace {

constexpr std::size_t kEvery = 512;

}  // namespace

ReadMarks::ReadMarks(std::uint64_t word, std::span<std::byte> buffer)
    : word_(word), buffer_(buffer) {
  const std::size_t last = buffer.size() - sizeof word;
  for (std::size_t at = 0; at < last; at += kEvery) {
    std::memcpy(&buffer[at], &word, sizeof word);
  }
  std::memcpy(&buffer[last], &word, sizeof word);
}

bool ReadMarks::gone() const {
  const std::size_t last = buffer_.size() - sizeof word_;
  for (std::size_t at = 0; at < last; at += kEvery) {
    if (std::memcmp(&buffer_[at], &word_, sizeof word_) == 0) return false;
  }
  return std::memcmp(&buffer_[last], &word_, sizeof word_) != 0;
}

}  // namespace clonedev
