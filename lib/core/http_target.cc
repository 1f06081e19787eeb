#include "core/http_target.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

namespace clonedev {
namespace {

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using Url = std::unique_ptr<CURLU, FreeUrl>;

Url parse_url(const std::string& text) {
  Url url(curl_url());
  if (url && curl_url_set(url.get(), CURLUPART_URL, text.c_str(), CURLU_PATH_AS_IS) != CURLUE_OK) {
    url.reset();
  }
  return url;
}

std::string part(const Url& url, CURLUPart which, unsigned flags) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, flags) != CURLUE_OK) return {};
  std::string copy(text);
  curl_free(text);
  return copy;
}

std::string server_of(const Url& url) {
  std::string server = part(url, CURLUPART_SCHEME, 0) + " " + part(url, CURLUPART_HOST, 0) + " " +
                       part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  std::transform(server.begin(), server.end(), server.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return server;
}

// Cut out of the text, not put together anew: a signature covers every character of the rest.
std::string without_userinfo(std::string_view spec) {
  spec = spec.substr(0, spec.find('#'));
  const std::size_t begin = spec.find("://") + 3;
  const std::string_view authority = spec.substr(begin, spec.find_first_of("/?", begin) - begin);
  const std::size_t at = authority.rfind('@');
  std::string url(spec);
  if (at != std::string_view::npos) url.erase(begin, at + 1);
  return url;
}

}  // namespace

Result<HttpTarget> HttpTarget::parse(std::string_view spec) {
  const Url url = parse_url(std::string(spec));
  if (!url || spec.find("://") == std::string_view::npos) {
    return fail(Errc::bad_config, "is no URL: write https://SERVER/PATH, with %20 for a blank");
  }
  HttpTarget target;
  target.url = without_userinfo(spec);
  target.user = part(url, CURLUPART_USER, CURLU_URLDECODE);
  target.password = part(url, CURLUPART_PASSWORD, CURLU_URLDECODE);
  return target;
}

bool HttpTarget::same_server(const std::string& other) const {
  const Url mine = parse_url(url);
  const Url theirs = parse_url(other);
  return mine && theirs && server_of(mine) == server_of(theirs);
}

}  // namespace clonedev
