#include "origin/origin_name.h"

#include <algorithm>

namespace clonedev {
namespace {

constexpr std::size_t kLongest = 200;

// "user:password@" of "scheme://user:password@host/...", or empty.
std::string_view userinfo(std::string_view spec) {
  const std::size_t scheme = spec.find("://");
  if (spec.starts_with('/') || scheme == std::string_view::npos) return {};
  const std::string_view rest = spec.substr(scheme + 3);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  const std::size_t at = authority.rfind('@');
  return at == std::string_view::npos ? std::string_view() : authority.substr(0, at + 1);
}

// "?query#fragment" of a URL whose query may hold a secret, or empty.
std::string_view secret_query(std::string_view spec) {
  const std::size_t at = spec.find_first_of("?#");
  const bool may =
      spec.starts_with("http://") || spec.starts_with("https://") || spec.starts_with("iscsi://");
  return may && at != std::string_view::npos ? spec.substr(at) : std::string_view();
}

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  if (what.empty()) return;
  for (std::size_t at = text.find(what); at != std::string::npos;
       at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

}  // namespace

std::string origin_name(std::string_view spec) {
  const std::string_view secret = userinfo(spec);
  const std::string_view query = secret_query(spec);
  std::string name(spec.substr(0, spec.size() - query.size()));
  if (!secret.empty()) {
    name.erase(static_cast<std::size_t>(secret.data() - spec.data()), secret.size());
  }
  return name;
}

std::string origin_sentence(std::string_view spec, std::string_view text) {
  std::string sentence(text);
  replace_all(sentence, spec, origin_name(spec));
  const std::string_view secret = userinfo(spec);
  if (!secret.empty()) replace_all(sentence, secret.substr(0, secret.size() - 1), "***");
  const std::string_view query = secret_query(spec);
  if (query.size() > 1) replace_all(sentence, query.substr(1), "***");
  std::replace_if(
      sentence.begin(), sentence.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  if (sentence.size() > kLongest) sentence.resize(kLongest);
  return sentence;
}

}  // namespace clonedev
