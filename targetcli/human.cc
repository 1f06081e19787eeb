#include "human.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace clonectl {
namespace {

constexpr std::size_t kBarWidth = 20;

// Parts of `scale`, rounded down, without overflow for any size of disk.
std::uint64_t scaled(std::uint64_t part, std::uint64_t whole, std::uint64_t scale) {
  if (part >= whole) {
    return scale;
  }
  const auto ratio = static_cast<long double>(part) / static_cast<long double>(whole);
  return std::min(static_cast<std::uint64_t>(ratio * static_cast<long double>(scale)), scale - 1);
}

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

std::size_t width(std::string_view text) {
  return text.size() -
         static_cast<std::size_t>(std::count_if(text.begin(), text.end(), continues_character));
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) {
    return fmt::format("{} B", bytes);
  }
  auto value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string human_percent(std::uint64_t part, std::uint64_t whole) {
  const std::uint64_t permille = scaled(part, whole, 1000);
  return fmt::format("{}.{} %", permille / 10, permille % 10);
}

std::string human_duration(std::uint64_t seconds) {
  const std::uint64_t minutes = seconds / 60;
  const std::uint64_t hours = minutes / 60;
  if (hours >= 24) {
    return fmt::format("{} d {} h", hours / 24, hours % 24);
  }
  if (hours > 0) {
    return fmt::format("{} h {} min", hours, minutes % 60);
  }
  return minutes > 0 ? fmt::format("{} min {} s", minutes, seconds % 60)
                     : fmt::format("{} s", seconds);
}

std::string progress_bar(std::uint64_t part, std::uint64_t whole) {
  const auto full = static_cast<std::size_t>(scaled(part, whole, kBarWidth));
  return "[" + std::string(full, '#') + std::string(kBarWidth - full, '.') + "]";
}

std::string printable(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    // In UTF-8, U+0080 to U+009F are C2 80 to C2 9F.
    const bool second = byte >= 0x80 && byte < 0xa0 && shown.ends_with('\xc2');
    if (second) shown.pop_back();
    shown += second || byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  return shown;
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], width(row[i]));
    }
  }
  std::string table;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i] + std::string(widths[i] - width(row[i]) + 2, ' ');
    }
    line.resize(line.find_last_not_of(' ') + 1);
    table += line + "\n";
  }
  return table;
}

}  // namespace clonectl
