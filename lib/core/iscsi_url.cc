#include "core/iscsi_url.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/config_value.h"

namespace clonedev {
namespace {

constexpr std::string_view kScheme = "iscsi://";
constexpr std::size_t kLongest = 223;  // Of an iSCSI name: RFC 3720, 3.2.6.1.
constexpr std::uint16_t kLargestLun = 16383;
// CHAP in libiscsi copies at most so many bytes and says nothing about the rest.
constexpr std::size_t kLongestSecret = 255;

tl::unexpected<Error> bad_url(std::string why) { return fail(Errc::bad_config, std::move(why)); }

std::optional<std::uint16_t> number(std::string_view text, std::uint16_t most) {
  std::uint16_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > most) return {};
  return value;
}

bool is_iscsi_name(std::string_view name) {
  const bool kind =
      name.starts_with("iqn.") || name.starts_with("eui.") || name.starts_with("naa.");
  return kind && name.size() <= kLongest && std::all_of(name.begin(), name.end(), [](char c) {
           return c > ' ' && c < 0x7f && c != '@' && c != '%';
         });
}

// The '%' of fe80::1%eth0 among it, but only in brackets: elsewhere it is a secret without its '@'.
bool is_host(std::string_view host, bool bracket) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [bracket](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || (bracket && (c == ':' || c == '%'));
  });
}

Result<> parse_userinfo(std::string_view text, IscsiUrl& url) {
  const std::size_t separator = std::min(
      text.find('%') != std::string_view::npos ? text.find('%') : text.find(':'), text.size());
  url.user = text.substr(0, separator);
  url.secret = text.substr(std::min(separator + 1, text.size()));
  // A # would end what others take for the part with the secret in it.
  if (text.find('#') != std::string_view::npos || url.user.empty() || url.secret.empty() ||
      url.user.size() > kLongestSecret || url.secret.size() > kLongestSecret) {
    return bad_url("what stands before the @ is not user%secret, or holds a #");
  }
  return {};
}

Result<> parse_server(std::string_view text, IscsiUrl& url) {
  const bool bracket = text.starts_with('[');
  const std::size_t end = bracket ? text.find(']') : std::min(text.find(':'), text.size());
  if (end != std::string_view::npos) {
    url.host = bracket ? text.substr(1, end - 1) : text.substr(0, end);
  }
  if (!is_host(url.host, bracket)) {
    return bad_url("it names no server: write iscsi://HOST/TARGET/LUN");
  }
  const std::string_view rest = text.substr(bracket ? end + 1 : end);
  if (rest.empty()) return {};
  const auto port = number(rest.substr(1), 65535);
  if (!rest.starts_with(':') || !port || *port == 0) {
    return bad_url("its port is no number: neither user nor secret can hold a / or an @");
  }
  url.port = *port;
  return {};
}

Result<> parse_unit(std::string_view path, IscsiUrl& url) {
  const std::size_t slash = path.find('/');
  const auto target = config::percent_decode(path.substr(0, slash));
  if (!target || !is_iscsi_name(*target)) {
    return bad_url("after its server no target's name follows: write iscsi://HOST/iqn.NAME/LUN");
  }
  const auto lun =
      slash == std::string_view::npos ? std::nullopt : number(path.substr(slash + 1), kLargestLun);
  if (!lun)
    return bad_url("its LUN is not a number from 0 to 16383: write iscsi://HOST/TARGET/LUN");
  url.target = *target;
  url.lun = *lun;
  return {};
}

Result<> parse_pair(std::string_view key, std::string_view value, IscsiUrl& url) {
  if (key == "target_user") {
    url.target_user = value;
  } else if (key == "target_password") {
    url.target_secret = value;
  } else if (key == "initiator" && is_iscsi_name(value)) {
    url.initiator = value;
  } else if (key == "header_digest" && (value == "crc32c" || value == "none")) {
    url.header_digest = value == "crc32c";
  } else {
    return bad_url(
        "what follows the ? has to be target_user=, target_password=, initiator=IQN or "
        "header_digest=crc32c, joined by &");
  }
  return {};
}

Result<> parse_query(std::string_view query, IscsiUrl& url) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    const std::size_t equals = std::min(pair.find('='), pair.size());
    const std::string_view value = pair.substr(std::min(equals + 1, pair.size()));
    if (auto done = parse_pair(pair.substr(0, equals), value, url); !done) return done;
    query.remove_prefix(std::min(pair.size() + 1, query.size()));
  }
  if (url.target_user.empty() != url.target_secret.empty() ||
      url.target_user.size() > kLongestSecret || url.target_secret.size() > kLongestSecret) {
    return bad_url("target_user= and target_password= belong together");
  }
  if (!url.target_user.empty() && url.user.empty()) {
    return bad_url("a target proves itself (target_user=) only to a user: write user%secret@ too");
  }
  return {};
}

}  // namespace

Result<IscsiUrl> parse_iscsi_url(std::string_view text) {
  if (!text.starts_with(kScheme)) return bad_url("it does not begin with iscsi://");
  text.remove_prefix(kScheme.size());
  const std::size_t question = std::min(text.find('?'), text.size());
  const std::string_view query = text.substr(std::min(question + 1, text.size()));
  text = text.substr(0, question);
  const std::size_t slash = std::min(text.find('/'), text.size());
  std::string_view server = text.substr(0, slash);
  const std::string_view path = text.substr(std::min(slash + 1, text.size()));

  IscsiUrl url;
  const std::size_t at = server.rfind('@');
  if (at != std::string_view::npos) {
    if (auto user = parse_userinfo(server.substr(0, at), url); !user) return fail(user.error());
    server.remove_prefix(at + 1);
  }
  if (auto done = parse_server(server, url); !done) return fail(done.error());
  if (auto done = parse_unit(path, url); !done) return fail(done.error());
  if (auto done = parse_query(query, url); !done) return fail(done.error());
  return url;
}

}  // namespace clonedev
