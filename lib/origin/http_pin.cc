#include "origin/http_pin.h"

#include <fmt/format.h>

namespace clonedev {
namespace {

constexpr int kPartialContent = 206;

std::string shown(const std::string& text) { return text.empty() ? "none" : text.substr(0, 48); }

}  // namespace

std::string HttpPin::precondition() const {
  if (!etag.empty()) return "If-Match: " + etag;
  if (!last_modified.empty()) return "If-Unmodified-Since: " + last_modified;
  return {};
}

std::string HttpPin::difference(const HttpHead& head) const {
  const auto& range = head.content_range();
  if (range && range->total && *range->total != size) {
    return fmt::format("it had {} bytes and has {}", size, *range->total);
  }
  if (!etag.empty() && head.strong_etag() != etag) {
    return fmt::format("its ETag was {} and is {}", shown(etag), shown(head.strong_etag()));
  }
  if (etag.empty() && head.last_modified() != last_modified) {
    return fmt::format("its Last-Modified was {} and is {}", shown(last_modified),
                       shown(head.last_modified()));
  }
  return {};
}

bool answers_range(const HttpHead& head, Extent range) {
  const auto& found = head.content_range();
  return head.status() == kPartialContent && !head.encoded() && !head.contradictory() && found &&
         found->range == range && found->total.has_value() &&
         head.content_length().value_or(range.length) == range.length;
}

}  // namespace clonedev
