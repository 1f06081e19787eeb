// Numbers and tables for people. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace clonectl {

// 512 B, 4.0 KiB, 1.5 TiB.
std::string human_bytes(std::uint64_t bytes);

// One digit after the point, rounded down: 100.0 % means all of it. Nothing of nothing is all.
std::string human_percent(std::uint64_t part, std::uint64_t whole);

// 42 s, 3 min 5 s, 2 h 10 min, 4 d 3 h.
std::string human_duration(std::uint64_t seconds);

// "[#####...............]", rounded down.
std::string progress_bar(std::uint64_t part, std::uint64_t whole);

// Control characters, those of U+0080 to U+009F too, become '?', so that no text from elsewhere
// drives the terminal.
std::string printable(std::string_view text);

// Columns padded to their widest cell, two blanks apart, a newline after each row.
std::string aligned(const std::vector<std::vector<std::string>>& rows);

}  // namespace clonectl
