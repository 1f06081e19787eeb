// An http:// or https:// URL taken apart into what is asked for and who asks.
//
// Units: none. Thread: any.
#pragma once

#include <string>
#include <string_view>

#include "clonedev/error.h"

namespace clonedev {

struct HttpTarget {
  std::string url;  // Without userinfo and fragment; the rest, with its query, as it was given.
  std::string user;
  std::string password;
  std::string token;    // Sent as "Authorization: Bearer"; empty: none.
  std::string ca_file;  // Whom https:// trusts instead of the system's authorities; may be empty.

  // Errc::bad_config: libcurl cannot read it; the sentence shows no part of it.
  static Result<HttpTarget> parse(std::string_view spec);
  bool secure() const { return url.starts_with("https:"); }
  // Scheme, host and port are ours: credentials may go there.
  bool same_server(const std::string& other) const;
};

}  // namespace clonedev
