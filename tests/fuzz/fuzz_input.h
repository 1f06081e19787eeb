// What a target takes its decisions from: the fuzzer's bytes, first to last. An input that has come
// to its end gives zeroes, so every input is a valid one and a short one stays short.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace clonedev::fuzz {

class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }

  // Little endian, `bytes` of them (at most 8).
  std::uint64_t number(unsigned bytes) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < bytes; ++i) value |= std::uint64_t{byte()} << 8 * i;
    return value;
  }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const std::uint8_t first = rest_.front();
    rest_ = rest_.subspan(1);
    return first;
  }
  bool flag() { return (byte() & 1) != 0; }

  // At most `length`, fewer at the end.
  std::span<const std::uint8_t> bytes(std::size_t length) {
    const auto taken = rest_.first(std::min(length, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::string_view text(std::size_t length) {
    const auto taken = bytes(length);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  std::string_view rest() { return text(rest_.size()); }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace clonedev::fuzz
