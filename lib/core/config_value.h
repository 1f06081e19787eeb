// The values of a config string: each function judges one kind of value. Pure. Thread: any.
//
// Errors are Errc::bad_config with one sentence that names the key and never holds an origin, nor
// what could be one in the wrong place, since it may carry a password.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "clonedev/error.h"
#include "clonedev/options.h"

namespace clonedev::config {

// RFC 3986 escapes, once; '+' is literal. Nothing when an escape is incomplete or not hexadecimal.
std::optional<std::string> percent_decode(std::string_view text);

// For messages: in double quotes, printable ASCII only, cut after 40 characters. What holds an '@'
// is not shown.
std::string quoted(std::string_view text);

bool has_control_character(std::string_view text);

Result<bool> parse_switch(std::string_view key, std::string_view text);
// "auto" is 0.
Result<std::uint32_t> parse_count(std::string_view key, std::string_view text);
Result<OriginLoss> parse_origin_loss(std::string_view key, std::string_view text);
// Bytes a second; `unset` is the word for 0.
Result<std::uint64_t> parse_rate(std::string_view key, std::string_view text,
                                 std::string_view unset);
// Milliseconds.
Result<std::uint32_t> parse_timeout(std::string_view key, std::string_view text);
// Bytes.
Result<std::uint64_t> parse_region_size(std::string_view key, std::string_view text);
Result<std::string> parse_path(std::string_view key, std::string_view text);
// The scheme comes back in lower case: whoever opens the origin need not fold it again.
Result<std::string> parse_origin(std::string_view key, std::string_view text);
// A bearer token.
Result<std::string> parse_token(std::string_view key, std::string_view text);
// The NAME of conf=NAME: a plain file name, without ".conf".
Result<std::string> parse_conf_name(std::string_view key, std::string_view text);

// A path is given as it is or behind file:; empty for an origin that is no local path.
std::string_view local_path(std::string_view origin);

bool is_http(std::string_view origin);

// The origin is a URI with userinfo, or an http:// or https:// URL with a query, which may be a
// signature.
bool holds_credentials(std::string_view origin);

}  // namespace clonedev::config
