// The head of an HTTP answer, as far as an origin needs it. Pure: whoever receives feeds it lines.
//
// A server may send anything: whatever is no proper value counts as absent, a field given twice
// with two values as contradictory, and more than kMostHead bytes are refused.
//
// Units: bytes. Thread: any, one at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "clonedev/extent.h"

namespace clonedev {

// "bytes 0-4095/1048576", "bytes 0-4095/*" or "bytes */1048576" (RFC 9110, 14.4).
struct ContentRange {
  std::optional<Extent> range;
  std::optional<std::uint64_t> total;
};

// Nothing when it is none of the three, or its numbers contradict each other.
std::optional<ContentRange> parse_content_range(std::string_view value);

class HttpHead {
 public:
  static constexpr std::size_t kMostHead = 64 << 10;

  // One line as it came, with or without its end. A status line begins the head anew: what came
  // before was an interim answer or a redirect. False: this head has no end.
  bool add_line(std::string_view line);

  int status() const { return status_; }  // 0: there was no status line.
  const std::optional<ContentRange>& content_range() const { return content_range_; }
  // With its quotes; empty: none, or a weak one, which does not promise equal bytes.
  const std::string& strong_etag() const { return strong_etag_; }
  const std::string& last_modified() const { return last_modified_; }  // As it came, printable.
  bool encoded() const { return encoded_; }  // Content-Encoding: anything but identity.
  std::optional<std::uint64_t> content_length() const { return content_length_; }
  std::optional<std::chrono::seconds> retry_after() const { return retry_after_; }
  bool contradictory() const { return contradictory_; }

 private:
  void begin(std::string_view status_line);
  void add_field(std::string_view name, std::string_view value);

  std::size_t bytes_ = 0;
  int status_ = 0;
  std::string raw_range_;
  std::optional<ContentRange> content_range_;
  std::string strong_etag_;
  std::string last_modified_;
  bool encoded_ = false;
  std::optional<std::uint64_t> content_length_;
  std::optional<std::chrono::seconds> retry_after_;
  bool contradictory_ = false;
};

}  // namespace clonedev
