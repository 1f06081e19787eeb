// What the content of an HTTP origin is pinned to, and whether an answer is of that content and is
// the bytes that were asked for. Pure. Thread: any.
#pragma once

#include <cstdint>
#include <string>

#include "clonedev/extent.h"
#include "origin/http_head.h"

namespace clonedev {

struct HttpPin {
  std::uint64_t size = 0;
  std::string etag;           // Strong; or
  std::string last_modified;  // when there is no such; or neither.

  // The header line that makes the server refuse (412) once it has other content; may be empty.
  std::string precondition() const;
  // Empty: the answer (206) is of this content. Else in which way it is not, for a sentence.
  std::string difference(const HttpHead& head) const;
};

// The answer says that its body is exactly these bytes, as they are.
bool answers_range(const HttpHead& head, Extent range);

}  // namespace clonedev
