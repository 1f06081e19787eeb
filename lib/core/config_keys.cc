#include "core/config_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/config_value.h"

namespace clonedev {
namespace config {
namespace {

template <class T>
Result<> store(T& field, Result<T> parsed) {
  if (!parsed) {
    return fail(std::move(parsed).error());
  }
  field = std::move(*parsed);
  return {};
}

Result<> apply_init(Options& options, std::string_view key, std::string_view value) {
  if (value != "overwrite") {
    return fail(Errc::bad_config, fmt::format("{}: {} is not known: the only value is overwrite",
                                              key, quoted(value)));
  }
  options.init_overwrite = true;
  return {};
}

constexpr std::size_t kMostAlternates = 8;

Result<> add_alternate(Options& options, std::string_view key, std::string_view value) {
  auto spec = parse_origin(key, value);
  if (!spec) return fail(std::move(spec).error());
  if (options.alternates.size() == kMostAlternates) {
    return fail(Errc::bad_config,
                fmt::format("{}: is given more than {} times", key, kMostAlternates));
  }
  options.alternates.push_back(std::move(*spec));
  return {};
}

// In the order of the help.
constexpr Key kKeys[] = {
    {"origin", "SPEC", "required",
     "the read-only source: a path, file:PATH, nbd://, nbds://, nbd+unix://, http:// or https://",
     Role::fixed, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.origin, parse_origin(k, v));
     }},
    {"alternate", "SPEC", "none",
     "where else the origin's content is, for when the origin is away; a conf file may have 8",
     Role::fixed, "", add_alternate, true},
    {"dest", "PATH", "required", "the destination: a file or a block device", Role::fixed, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.dest, parse_path(k, v));
     }},
    {"meta", "PATH", "/var/lib/tcmu-clone/NAME.meta", "the metadata: a file or a block device",
     Role::fixed, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.meta, parse_path(k, v));
     }},
    {"conf", "NAME", "none", "read /etc/tcmu/clone.d/NAME.conf; only live keys may stand beside it",
     Role::conf, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.conf, parse_conf_name(k, v));
     }},
    {"origin_token", "TOKEN", "none",
     "the bearer token of an http:// or https:// origin; in a conf file of mode 0600 only",
     Role::secret, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.origin_token, parse_token(k, v));
     }},
    {"origin_ca", "PATH", "the system's authorities",
     "the certificates that an https:// origin is checked against", Role::fixed, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.origin_ca, parse_path(k, v));
     }},
    {"region_size", "SIZE", "4k", "what status and messages count in: a power of two, 4k to 1g",
     Role::fixed, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.region_size, parse_region_size(k, v));
     }},
    {"write_cache", "on|off", "on", "off: every write is durable before it is acknowledged",
     Role::fixed, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.write_cache, parse_switch(k, v));
     }},
    {"ro", "on|off", "off", "on: the LUN is write-protected; the copying goes on", Role::fixed, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.read_only, parse_switch(k, v));
     }},
    {"init", "overwrite", "none",
     "make a new clone over a destination or metadata that holds something", Role::fixed, "",
     apply_init},
    {"hydration", "on|off", "on", "background copying", Role::live, "no_hydration",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.hydration, parse_switch(k, v));
     }},
    {"hydration_threshold", "N|auto", "auto", "how many regions are copied at a time", Role::live,
     "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.hydration_threshold, parse_count(k, v));
     }},
    {"hydration_batch_size", "N|auto", "auto", "how many regions one copy joins", Role::live, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.hydration_batch_size, parse_count(k, v));
     }},
    {"rate_limit", "SIZE|none", "none", "bytes a second that hydration reads at most", Role::live,
     "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.rate_limit, parse_rate(k, v, "none"));
     }},
    {"min_rate", "SIZE|auto", "auto",
     "bytes a second that hydration gets even while users keep the LUN busy", Role::live, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.min_rate, parse_rate(k, v, "auto"));
     }},
    {"copy_on_read", "on|off", "on", "keep on the destination what a user's read has fetched",
     Role::live, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.copy_on_read, parse_switch(k, v));
     }},
    {"discard_passdown", "on|off", "on",
     "off: unmapped space stays allocated; it reads as zeroes all the same", Role::live,
     "no_discard_passdown",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.discard_passdown, parse_switch(k, v));
     }},
    {"origin_timeout", "TIME", "20s",
     "how long a command waits for the origin before BUSY: 100ms to 29s", Role::live, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.origin_timeout_ms, parse_timeout(k, v));
     }},
    {"on_origin_loss", "busy|error", "busy",
     "what a command gets that needs an origin known to be away: BUSY, or an error at once",
     Role::live, "",
     [](Options& o, std::string_view k, std::string_view v) {
       return store(o.on_origin_loss, parse_origin_loss(k, v));
     }},
};

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

const Key* find_key(std::string_view word) {
  const auto* found = std::find_if(std::begin(kKeys), std::end(kKeys), [word](const Key& key) {
    return key.name == word || (!key.off_word.empty() && key.off_word == word);
  });
  return found == std::end(kKeys) ? nullptr : found;
}

std::string_view nearest_key(std::string_view word) {
  std::string_view nearest;
  std::size_t best = std::min<std::size_t>(3, word.size() / 3 + 1);
  for (const Key& key : kKeys) {
    for (const std::string_view name : {key.name, key.off_word}) {
      const std::size_t distance = name.empty() ? best : edit_distance(word.substr(0, 64), name);
      if (distance < best) {
        best = distance;
        nearest = name;
      }
    }
  }
  return nearest;
}

}  // namespace config

const char* config_help() {
  static const std::string* const text = [] {
    auto* help = new std::string(
        "origin=SPEC;dest=PATH[;key=value]...   or   conf=NAME[;live key=value]...\n\n");
    for (const config::Key& key : config::kKeys) {
      *help += fmt::format("  {:<28} {}{} ({}{})\n", fmt::format("{}={}", key.name, key.value),
                           key.role == config::Role::live ? "[live] " : "", key.meaning,
                           key.initial == "required" ? "" : "default: ", key.initial);
      if (!key.off_word.empty()) {
        *help += fmt::format("  {:<28} the same as {}=off\n", key.off_word, key.name);
      }
    }
    *help +=
        "\nSIZE: an integer, optionally with k, m, g or t (1024). TIME: 20s or 1500ms.\n"
        "In a value write : as %3A, ; as %3B, , as %2C, a blank as %20 and % as %25.\n"
        "At most 254 bytes in all. [live] keys may change while the LUN is in use.\n";
    return help;
  }();
  return text->c_str();
}

}  // namespace clonedev
