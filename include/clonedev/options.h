// The config string and the conf file: one syntax, one list of keys, one place.
//
// Thread: any. No function here looks at a path other than the conf file it is told to read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "clonedev/error.h"

namespace clonedev {

// What a command that needs the origin gets while that is known to be away.
enum class OriginLoss { busy, error };

// What a config string says. Live keys may change while the LUN is in use.
struct Options {
  std::string origin;                   // As docs/origins.md tells.
  std::vector<std::string> alternates;  // Further places of the same content, in their order.
  std::string origin_token;             // Of an http(s) origin; a secret. Empty: none.
  std::string origin_ca;  // Whom an https origin's certificate is checked against; or empty.
  std::string dest;
  std::string meta;  // Empty: <state_dir>/NAME.meta.
  std::string conf;  // conf=NAME, empty when the string carries everything.
  std::uint64_t region_size = 4096;
  bool write_cache = true;
  bool read_only = false;  // Users change nothing; the clone itself works as ever.
  bool init_overwrite = false;

  // Live.
  bool hydration = true;
  std::uint32_t hydration_threshold = 0;   // Regions in flight; 0 = auto.
  std::uint32_t hydration_batch_size = 0;  // Regions a copy; 0 = auto.
  std::uint64_t rate_limit = 0;            // Bytes a second; 0 = none.
  std::uint64_t min_rate = 0;              // Bytes a second; 0 = auto.
  bool copy_on_read = true;
  bool discard_passdown = true;
  std::uint32_t origin_timeout_ms = 20'000;
  OriginLoss on_origin_loss = OriginLoss::busy;

  std::vector<std::string> warnings;  // For the log; never a value of a secret.

  // The first key that differs and may not while the LUN exists; null when there is none.
  const char* first_static_difference(const Options& other) const;
};

// The whole string as the kernel has it ("clone/origin=...;dest=..."). No side effect; when it
// names conf=, only the live keys beside it are judged and the file is not looked at.
Result<Options> parse_config(std::string_view config);

// The same, then reads <conf_dir>/NAME.conf (root-owned, not writable by others) when the string
// says conf=NAME; keys in the string override live keys of the file.
Result<Options> load_config(std::string_view config,
                            const std::string& conf_dir = "/etc/tcmu/clone.d");

// "100", "4k", "1G": bytes, factors of 1024, any case.
Result<std::uint64_t> parse_size(std::string_view text);

// Every key with its default and meaning, for `targetcli ... help create` and the man page.
const char* config_help();

}  // namespace clonedev
