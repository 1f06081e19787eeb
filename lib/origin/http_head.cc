#include "origin/http_head.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace clonedev {
namespace {

constexpr std::uint64_t kLargestSize = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kLongestDate = 64;
constexpr std::size_t kLongestEtagTaken = 1024;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > kLargestSize) return {};
  return value;
}

std::optional<Extent> parse_range(std::string_view text) {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return {};
  const auto first = parse_number(text.substr(0, dash));
  const auto last = parse_number(text.substr(dash + 1));
  if (!first || !last || *last < *first || *last == kLargestSize) return {};
  return Extent{*first, *last - *first + 1};
}

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

// What goes back to the server as it is, and into a sentence: nothing but printable characters.
bool is_strong_etag(std::string_view value) {
  if (value.size() < 2 || value.size() > kLongestEtagTaken) return false;
  const std::string_view inner = value.substr(1, value.size() - 2);
  return value.front() == '"' && value.back() == '"' && printable(inner) &&
         inner.find_first_of("\" ") == std::string_view::npos;
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view value) {
  value = trim(value);
  constexpr std::string_view kUnit = "bytes";
  if (value.size() <= kUnit.size() || !same_word(value.substr(0, kUnit.size()), kUnit)) return {};
  value.remove_prefix(kUnit.size());
  if (value.front() != ' ') return {};
  value = trim(value);
  const std::size_t slash = value.find('/');
  if (slash == std::string_view::npos) return {};
  const std::string_view range = value.substr(0, slash);
  const std::string_view total = value.substr(slash + 1);
  ContentRange parsed;
  if (range != "*") {
    parsed.range = parse_range(range);
    if (!parsed.range) return {};
  }
  if (total != "*") {
    parsed.total = parse_number(total);
    if (!parsed.total) return {};
  }
  if (!parsed.range && !parsed.total) return {};
  if (parsed.range && parsed.total && parsed.range->end() > *parsed.total) return {};
  return parsed;
}

bool HttpHead::add_line(std::string_view line) {
  bytes_ += line.size();
  if (bytes_ > kMostHead) return false;
  if (line.starts_with("HTTP/")) {
    begin(line);
    return true;
  }
  const std::size_t colon = line.find(':');
  if (colon != std::string_view::npos)
    add_field(line.substr(0, colon), trim(line.substr(colon + 1)));
  return true;
}

void HttpHead::begin(std::string_view status_line) {
  const std::size_t bytes = bytes_;  // Interim answers count as well: they could go on for ever.
  *this = HttpHead();
  bytes_ = bytes;
  const std::size_t blank = status_line.find(' ');
  if (blank == std::string_view::npos) return;
  const auto status = parse_number(trim(status_line.substr(blank)).substr(0, 3));
  if (status && *status >= 100 && *status <= 999) status_ = static_cast<int>(*status);
}

void HttpHead::add_field(std::string_view name, std::string_view value) {
  const auto once = [this](std::string& field, std::string_view found) {
    if (!field.empty() && field != found) contradictory_ = true;
    field = found;
  };
  if (same_word(name, "content-range")) {
    once(raw_range_, value);
    content_range_ = parse_content_range(value);
  } else if (same_word(name, "etag")) {
    if (is_strong_etag(value)) once(strong_etag_, value);
  } else if (same_word(name, "last-modified")) {
    if (printable(value) && value.size() <= kLongestDate) once(last_modified_, value);
  } else if (same_word(name, "content-encoding")) {
    if (!value.empty() && !same_word(value, "identity")) encoded_ = true;
  } else if (same_word(name, "content-length")) {
    content_length_ = parse_number(value);
  } else if (same_word(name, "retry-after")) {
    const auto seconds = parse_number(value);
    if (seconds && *seconds <= 86'400) retry_after_ = std::chrono::seconds(*seconds);
  }
}

}  // namespace clonedev
