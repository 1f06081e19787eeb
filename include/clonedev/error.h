// Errors as values: what happened, and one sentence for the person who has to act on it.
#pragma once

#include <cstdint>
#include <string>
#include <system_error>
#include <tl/expected.hpp>
#include <type_traits>

namespace clonedev {

enum class Errc {
  busy = 1,           // Could not be done in time; it had no effect and never will. Retry.
  origin_read,        // The origin answered a read with an error.
  origin_lost,        // The origin is known to be away, and on_origin_loss=error; no effect.
  destination_read,   // The destination failed a read.
  destination_write,  // The destination failed a write or a zeroing.
  no_space,           // The destination is full.
  live_map_full,      // The tmpfs of the live map is full; no state was changed.
  miscompare,         // COMPARE AND WRITE: the data differ; Error::detail is the first byte.
  needs_check,        // A commit or flush failed earlier; nothing is durable any more (I10).
  metadata_io,        // The metadata device failed.
  damaged,            // Metadata is present but not valid.
  foreign,            // Metadata, origin or destination belong to something else.
  in_use,             // Another clone or another process has it.
  bad_config,         // The config string, conf file or a size is not acceptable.
  refused,            // Not done, on purpose, to protect data.
  unavailable,        // A file, device or server is missing or cannot be reached.
  closed,             // The device is being closed.
};

std::error_code make_error_code(Errc e);

struct Error {
  std::error_code code;
  std::string context;       // "what: why: what to do", without a trailing newline.
  std::uint64_t detail = 0;  // Errc::miscompare only.

  std::string message() const { return context.empty() ? code.message() : context; }
};

template <class T = void>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Errc code, std::string context) {
  return tl::unexpected<Error>(Error{make_error_code(code), std::move(context)});
}

inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

}  // namespace clonedev

template <>
struct std::is_error_code_enum<clonedev::Errc> : std::true_type {};
