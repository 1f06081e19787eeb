#include "core/config_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <limits>

#include "clonedev/options.h"
#include "core/http_target.h"
#include "core/iscsi_url.h"

namespace clonedev {
namespace config {
namespace {

constexpr std::uint64_t kLowestRate = 4096;
constexpr std::uint64_t kMinRegion = 4096;
constexpr std::uint64_t kMaxRegion = std::uint64_t{1} << 30;
constexpr std::uint64_t kMinTimeoutMs = 100;
constexpr std::uint64_t kMaxTimeoutMs = 29'000;  // Below the kernel's cmd_time_out of 30 s.
constexpr std::size_t kMaxQuoted = 40;
constexpr std::size_t kMaxConfName = 200;
constexpr std::string_view kOriginKinds =
    "give an absolute path, file:PATH, nbd://, nbds://, nbd+unix://, http://, https:// or iscsi://";

constexpr std::array<std::string_view, 2> kHttp = {"http", "https"};

tl::unexpected<Error> bad_value(std::string_view key, std::string_view why) {
  return fail(Errc::bad_config, fmt::format("{}: {}", key, why));
}

bool is_control(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_scheme_character(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

std::optional<std::uint8_t> parse_hex_byte(std::string_view digits) {
  std::uint8_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (digits.size() != 2 || error != std::errc() || end != digits.data() + 2) {
    return std::nullopt;
  }
  return value;
}

// Lower case, as RFC 3986 compares schemes; empty: this is no URI.
std::string scheme_of(std::string_view origin) {
  const auto colon = origin.find(':');
  if (colon == std::string_view::npos || colon == 0 || !is_letter(origin.front())) {
    return {};
  }
  std::string scheme(origin.substr(0, colon));
  if (!std::all_of(scheme.begin(), scheme.end(), is_scheme_character)) {
    return {};
  }
  std::transform(scheme.begin(), scheme.end(), scheme.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return scheme;
}

template <std::size_t N>
bool is_one_of(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// "server", "server:10809", "[::1]:10809", each with or without userinfo before an '@'.
bool has_sound_port(std::string_view authority) {
  const std::size_t server = authority.find_last_of("@]");
  if (server != std::string_view::npos) authority.remove_prefix(server);
  const std::size_t colon = authority.find(':');
  return colon == std::string_view::npos || colon + 1 == authority.size() ||
         parse_number(authority.substr(colon + 1)).value_or(65536) <= 65535;
}

Result<> check_server(std::string_view key, std::string_view scheme, std::string_view origin) {
  const auto rest = origin.substr(scheme.size() + 1);
  if (!rest.starts_with("//") || rest.size() == 2) {
    return bad_value(key, fmt::format("{}: must be followed by // and a server", scheme));
  }
  // Or else the rest of a password with a '/' in it counts as a path, which is no secret.
  if (!has_sound_port(rest.substr(2, rest.find_first_of("/?#", 2) - 2))) {
    return bad_value(
        key, "its port is no number: a user's name or password is written with %2F for a /");
  }
  return {};
}

Result<> check_nbd(std::string_view key, std::string_view scheme, std::string_view origin) {
  if (auto server = check_server(key, scheme, origin); !server) return server;
  const auto rest = origin.substr(scheme.size() + 1);
  const auto query = rest.find('?');
  const bool has_socket =
      query != std::string_view::npos && rest.find("socket=", query) != std::string_view::npos;
  if (scheme == "nbd+unix" && !has_socket) {
    return bad_value(key, "nbd+unix:// needs the path of its socket: append ?socket=/PATH");
  }
  return {};
}

Result<> check_http(std::string_view key, std::string_view scheme, std::string_view origin) {
  if (auto server = check_server(key, scheme, origin); !server) return server;
  const auto rest = origin.substr(scheme.size() + 3);
  if (rest.starts_with('/') || rest.starts_with('?')) {
    return bad_value(key, fmt::format("{}:// must be followed by a server", scheme));
  }
  if (rest.find(' ') != std::string_view::npos) {
    return bad_value(key, "a URL holds no blank: write %20");
  }
  if (auto target = HttpTarget::parse(origin); !target)
    return bad_value(key, target.error().context);
  return {};
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const auto byte = parse_hex_byte(text.substr(i + 1, 2));
    if (!byte) {
      return std::nullopt;
    }
    decoded += static_cast<char>(*byte);
    i += 2;
  }
  return decoded;
}

std::string quoted(std::string_view text) {
  // Maybe the origin's URI in the wrong place, with a password.
  if (text.find('@') != std::string_view::npos || text.find("%40") != std::string_view::npos) {
    return "a value that is not shown, since it holds an @,";
  }
  std::string shown = "\"";
  for (const char c : text.substr(0, kMaxQuoted)) {
    shown += c >= 0x20 && c < 0x7f ? c : '?';
  }
  return shown + (text.size() > kMaxQuoted ? "...\"" : "\"");
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), is_control);
}

Result<bool> parse_switch(std::string_view key, std::string_view text) {
  if (text == "on") {
    return true;
  }
  if (text == "off") {
    return false;
  }
  return bad_value(key, fmt::format("{} is neither on nor off", quoted(text)));
}

Result<std::uint32_t> parse_count(std::string_view key, std::string_view text) {
  if (text == "auto") {
    return 0U;
  }
  const auto number = parse_number(text);
  if (!number || *number == 0 || *number > std::numeric_limits<std::uint32_t>::max()) {
    return bad_value(key, fmt::format("{} is neither auto nor a number of regions from 1 to {}",
                                      quoted(text), std::numeric_limits<std::uint32_t>::max()));
  }
  return static_cast<std::uint32_t>(*number);
}

Result<OriginLoss> parse_origin_loss(std::string_view key, std::string_view text) {
  if (text == "busy") return OriginLoss::busy;
  if (text == "error") return OriginLoss::error;
  return bad_value(key, fmt::format("{} is neither busy nor error", quoted(text)));
}

Result<std::uint64_t> parse_rate(std::string_view key, std::string_view text,
                                 std::string_view unset) {
  if (text == unset) return 0U;
  const auto rate = parse_size(text);
  if (!rate || *rate < kLowestRate) {
    return bad_value(key,
                     fmt::format("{} is neither {} nor a number of bytes a second, 4k or more: "
                                 "write for example 20m (hydration=off stops the copying)",
                                 quoted(text), unset));
  }
  return *rate;
}

Result<std::uint32_t> parse_timeout(std::string_view key, std::string_view text) {
  const bool milliseconds = text.ends_with("ms");
  const bool seconds = !milliseconds && text.ends_with('s');
  const std::size_t suffix = milliseconds ? 2 : seconds ? 1 : 0;
  const auto number = parse_number(text.substr(0, text.size() - suffix));
  if (suffix == 0 || !number) {
    return bad_value(
        key, fmt::format("{} is not a time: write for example 20s or 1500ms", quoted(text)));
  }
  if (*number > kMaxTimeoutMs || *number * (seconds ? 1000 : 1) > kMaxTimeoutMs ||
      *number * (seconds ? 1000 : 1) < kMinTimeoutMs) {
    return bad_value(key,
                     fmt::format("{} is out of range: choose from {}ms to {}s, below the kernel's "
                                 "limit of 30s for a command",
                                 quoted(text), kMinTimeoutMs, kMaxTimeoutMs / 1000));
  }
  return static_cast<std::uint32_t>(*number * (seconds ? 1000 : 1));
}

Result<std::uint64_t> parse_region_size(std::string_view key, std::string_view text) {
  const auto size = parse_size(text);
  if (!size) {
    return bad_value(key, size.error().context);
  }
  if (*size < kMinRegion || *size > kMaxRegion || !std::has_single_bit(*size)) {
    return bad_value(key, fmt::format("{} is not a power of two from 4k to 1g", quoted(text)));
  }
  return *size;
}

Result<std::string> parse_path(std::string_view key, std::string_view text) {
  if (!text.starts_with('/')) {
    return bad_value(key, fmt::format("{} is not an absolute path: start it with /", quoted(text)));
  }
  return std::string(text);
}

Result<std::string> parse_origin(std::string_view key, std::string_view text) {
  static constexpr std::array<std::string_view, 3> kNbd = {"nbd", "nbds", "nbd+unix"};
  const std::string scheme = scheme_of(text);
  if (is_one_of(scheme, kNbd)) {
    if (auto nbd = check_nbd(key, scheme, text); !nbd) {
      return fail(nbd.error());
    }
    return scheme + std::string(text.substr(scheme.size()));
  }
  if (scheme == "iscsi") {
    const std::string folded = scheme + std::string(text.substr(scheme.size()));
    if (auto url = parse_iscsi_url(folded); !url) {
      return bad_value(key, fmt::format("iscsi: {}", url.error().context));
    }
    return folded;
  }
  if (is_one_of(scheme, kHttp)) {
    if (auto http = check_http(key, scheme, text); !http) {
      return fail(http.error());
    }
    return scheme + std::string(text.substr(scheme.size()));
  }
  if (!scheme.empty() && scheme != "file") {
    return bad_value(key, fmt::format("its scheme is not known: {}", kOriginKinds));
  }
  if (local_path(text).empty()) {
    return bad_value(key,
                     fmt::format("it is neither an absolute path nor a URI: {}", kOriginKinds));
  }
  return scheme + std::string(text.substr(scheme.size()));
}

Result<std::string> parse_token(std::string_view key, std::string_view text) {
  // b64token of RFC 6750; the text itself is a secret.
  const bool sound = std::all_of(text.begin(), text.end(), [](char c) {
    return is_scheme_character(c) || c == '_' || c == '~' || c == '/' || c == '=';
  });
  if (!sound) return bad_value(key, "a bearer token has letters, digits and -._~+/= only");
  return std::string(text);
}

Result<std::string> parse_conf_name(std::string_view key, std::string_view text) {
  if (text.starts_with('.') || text.find('/') != std::string_view::npos ||
      text.size() > kMaxConfName) {
    return bad_value(key,
                     fmt::format("{} is not a plain file name: give NAME of "
                                 "/etc/tcmu/clone.d/NAME.conf, without / and without a leading dot",
                                 quoted(text)));
  }
  return std::string(text);
}

std::string_view local_path(std::string_view origin) {
  if (scheme_of(origin) == "file") {
    origin.remove_prefix(std::string_view("file:").size());
    if (origin.starts_with("//")) {
      origin.remove_prefix(2);  // Only an empty authority leaves a path that starts with '/'.
    }
  }
  return origin.starts_with('/') ? origin : std::string_view();
}

bool is_http(std::string_view origin) { return is_one_of(scheme_of(origin), kHttp); }

bool holds_credentials(std::string_view origin) {
  const auto start = origin.find("://");
  const std::string scheme = scheme_of(origin);
  if (scheme.empty() || start == std::string_view::npos) {
    return false;
  }
  if (is_one_of(scheme, kHttp) && origin.find('?') != std::string_view::npos) {
    return true;
  }
  const auto authority =
      origin.substr(start + 3, origin.find_first_of("/?#", start + 3) - start - 3);
  return authority.find('@') != std::string_view::npos;
}

}  // namespace config

Result<std::uint64_t> parse_size(std::string_view text) {
  static constexpr std::string_view kUnits = "kmgt";
  const std::string shown = config::quoted(text);
  unsigned shift = 0;
  if (!text.empty()) {
    // Setting bit 5 turns an ASCII letter into lower case.
    const auto unit = kUnits.find(static_cast<char>(text.back() | 0x20));
    if (unit != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(unit) + 1);
      text.remove_suffix(1);
    }
  }
  const auto number = config::parse_number(text);
  if (!number) {
    return fail(
        Errc::bad_config,
        fmt::format("{} is not a size: write an integer, optionally with k, m, g or t", shown));
  }
  if (*number > std::numeric_limits<std::uint64_t>::max() >> shift) {
    return fail(Errc::bad_config, fmt::format("{} is too large for a size", shown));
  }
  return *number << shift;
}

}  // namespace clonedev
