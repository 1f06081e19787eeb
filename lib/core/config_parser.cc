// From text to settings, from settings to Options.
//
// A string is cut at ';', each piece at its first '=', and only then the value is decoded, so that
// an escaped ';' or '=' stays data. A conf file is cut at newlines and decodes nothing. Both become
// settings, which one function applies: unknown keys, second values and keys in the wrong place are
// refused there.

#include "core/config_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/config_keys.h"
#include "core/config_value.h"

namespace clonedev {
namespace {

using config::Key;
using config::Role;

constexpr std::string_view kSubtype = "clone/";
constexpr std::string_view kRunnerTimeout = "tcmur_cmd_time_out";
constexpr std::size_t kMaxConfig = 254;

// One key with its value, before it is judged.
struct Setting {
  std::string_view key;
  std::string value;
  bool has_value = false;
  std::string where;  // "FILE line N: " or nothing.
};

enum class Accept { all, live_only, all_but_conf };

tl::unexpected<Error> bad(std::string text) { return fail(Errc::bad_config, std::move(text)); }

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  return first == std::string_view::npos
             ? std::string_view()
             : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

tl::unexpected<Error> unknown_key(const Setting& setting) {
  // A URI with an unescaped ';' ends up here: not a word of it is shown.
  const bool maybe_secret = setting.key.find_first_of(":@") != std::string_view::npos;
  const auto nearest = config::nearest_key(setting.key);
  return bad(fmt::format("{}{}: unknown key: {}", setting.where,
                         maybe_secret ? "a setting" : config::quoted(setting.key),
                         nearest.empty() ? "see the list of keys in tcmu-clone(7)"
                                         : fmt::format("did you mean {}?", nearest)));
}

Result<> check_place(const Key& key, const Setting& setting, Accept accept) {
  if (accept != Accept::all_but_conf && key.role == Role::secret) {
    return bad(fmt::format(
        "{}: everybody can read the config string: write it to a conf file of mode 0600",
        setting.key));
  }
  if (accept == Accept::live_only && key.role == Role::fixed) {
    return bad(fmt::format(
        "{}: is fixed when the LUN is opened: only live keys may be set or stand beside "
        "conf=, the conf file takes the others",
        setting.key));
  }
  if (accept == Accept::all_but_conf && key.role == Role::conf) {
    return bad(fmt::format("{}{}: a conf file cannot name another one: remove the line",
                           setting.where, setting.key));
  }
  return {};
}

Result<> apply_setting(const Key& key, const Setting& setting, Options& options) {
  const bool is_off_word = setting.key != key.name;
  if (is_off_word && setting.has_value) {
    return bad(fmt::format("{}{}: takes no value: write {} alone or {}=off", setting.where,
                           setting.key, setting.key, key.name));
  }
  if (!is_off_word && setting.value.empty()) {
    return bad(fmt::format("{}{}: has no value: write {}={}", setting.where, setting.key, key.name,
                           key.value));
  }
  if (config::has_control_character(setting.value)) {
    return bad(
        fmt::format("{}{}: holds a control character: remove it", setting.where, setting.key));
  }
  auto applied = key.apply(options, key.name, is_off_word ? "off" : setting.value);
  if (!applied) {
    return bad(setting.where + applied.error().context);
  }
  return {};
}

Result<> apply_settings(const std::vector<Setting>& settings, Accept accept, Options& options) {
  std::set<std::string_view> seen;
  for (const Setting& setting : settings) {
    const Key* key = config::find_key(setting.key);
    if (key == nullptr) {
      return unknown_key(setting);
    }
    if (auto place = check_place(*key, setting, accept); !place) {
      return place;
    }
    const bool may_repeat = key->repeats && accept == Accept::all_but_conf;
    if (!seen.insert(key->name).second && !may_repeat) {
      return bad(fmt::format("{}{}: is given twice: keep one of them", setting.where, key->name));
    }
    if (auto applied = apply_setting(*key, setting, options); !applied) {
      return applied;
    }
  }
  return {};
}

Result<> check_string(std::string_view config) {
  if (config.size() > kMaxConfig) {
    return bad(
        fmt::format("the config string has {} bytes and the kernel takes {}: move settings "
                    "to a conf file and write conf=NAME",
                    config.size(), kMaxConfig));
  }
  if (!config.starts_with(kSubtype)) {
    return bad("the config string does not start with clone/: write clone/origin=SPEC;dest=PATH");
  }
  if (config.find(':') != std::string_view::npos) {
    return bad(
        "the config string holds a ':', which the kernel's tools refuse: write %3A, or use "
        "a conf file and write conf=NAME");
  }
  const bool has_blank = config.find(' ') != std::string_view::npos;
  if (has_blank || config.find(',') != std::string_view::npos) {
    return bad(fmt::format("the config string holds a {}, which the kernel would cut at: write {}",
                           has_blank ? "blank" : "comma", has_blank ? "%20" : "%2C"));
  }
  if (config::has_control_character(config)) {
    return bad("the config string holds a control character: remove it");
  }
  return {};
}

Result<Setting> read_piece(std::string_view piece) {
  const auto equals = piece.find('=');
  Setting setting{piece.substr(0, equals), {}, equals != std::string_view::npos, {}};
  if (setting.has_value) {
    auto decoded = config::percent_decode(piece.substr(equals + 1));
    if (!decoded) {
      return bad(fmt::format("{}: holds a bad percent escape: write % as %25",
                             config::quoted(setting.key)));
    }
    setting.value = std::move(*decoded);
  }
  return setting;
}

bool is_runner_timeout(std::string_view piece) {
  return piece.substr(0, piece.find('=')) == kRunnerTimeout;
}

Result<std::vector<Setting>> split_string(std::string_view config, Options& options) {
  std::vector<Setting> settings;
  std::string_view rest = config.substr(kSubtype.size());
  while (!rest.empty()) {
    const auto end = std::min(rest.find(';'), rest.size());
    const auto piece = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (is_runner_timeout(piece)) {
      // tcmu-runner cuts its option out together with the ';' behind it.
      if (!rest.empty()) {
        return bad(fmt::format("{}: tcmu-runner would join the keys around it: write it last",
                               kRunnerTimeout));
      }
      options.warnings.push_back(
          fmt::format("{} can close the clone while it is in use: prefer the kernel's attribute "
                      "cmd_time_out",
                      kRunnerTimeout));
      continue;
    }
    if (piece.empty()) {
      return bad("the config string holds an empty setting: remove one ';'");
    }
    auto setting = read_piece(piece);
    if (!setting) {
      return fail(std::move(setting).error());
    }
    settings.push_back(std::move(*setting));
  }
  return settings;
}

Result<std::vector<Setting>> split_file(std::string_view text, std::string_view file) {
  std::vector<Setting> settings;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') {
      continue;
    }
    const auto equals = line.find('=');
    Setting setting{trim(line.substr(0, equals)),
                    {},
                    equals != std::string_view::npos,
                    fmt::format("{} line {}: ", file, number)};
    if (setting.has_value) {
      setting.value = trim(line.substr(equals + 1));
    }
    settings.push_back(std::move(setting));
  }
  return settings;
}

std::string_view as_path(std::string_view spec) {
  const auto path = config::local_path(spec);
  return path.empty() ? spec : path;
}

std::string same_path(std::string_view where, std::string_view one, std::string_view other) {
  return fmt::format("{}{} and {} are the same path: give each its own", where, one, other);
}

Result<> check_apart(std::string_view key, std::string_view spec, const Options& options,
                     std::string_view where) {
  const auto path = as_path(spec);
  if (path == options.dest) return bad(same_path(where, key, "dest"));
  if (path == options.meta) return bad(same_path(where, key, "meta"));
  return {};
}

// Everybody can read the config string.
Result<> check_credentials(std::string_view key, std::string_view spec) {
  if (!config::holds_credentials(spec)) return {};
  return bad(fmt::format(
      "{}: its URI holds credentials, or a query that may be a signature, and everybody "
      "can read the config string: move it to a conf file of mode 0600 and write "
      "conf=NAME",
      key));
}

// Of the live keys, wherever each of them stands.
Result<> check_rates(const Options& options) {
  if (options.rate_limit == 0 || options.min_rate <= options.rate_limit) return {};
  return bad(
      fmt::format("min_rate: {} bytes a second are more than rate_limit={} allows: lower "
                  "min_rate, or raise rate_limit",
                  options.min_rate, options.rate_limit));
}

Result<> check_whole(const Options& options, std::string_view where) {
  if (options.origin.empty() || options.dest.empty()) {
    return bad(fmt::format("{}{}: is missing: a clone needs origin=SPEC and dest=PATH", where,
                           options.origin.empty() ? "origin" : "dest"));
  }
  const bool http_origin = config::is_http(options.origin);
  const bool any_http = http_origin || std::any_of(options.alternates.begin(),
                                                   options.alternates.end(), config::is_http);
  if ((!http_origin && !options.origin_token.empty()) ||
      (!any_http && !options.origin_ca.empty())) {
    return bad(fmt::format("{}{}: is for http:// and https:// origins: remove it", where,
                           options.origin_token.empty() ? "origin_ca" : "origin_token"));
  }
  if (options.dest == options.meta) return bad(same_path(where, "dest", "meta"));
  if (auto apart = check_apart("origin", options.origin, options, where); !apart) return apart;
  for (const std::string& alternate : options.alternates) {
    if (auto apart = check_apart("alternate", alternate, options, where); !apart) return apart;
  }
  return {};
}

// The string's own settings, over what `options` already holds.
Result<> apply_string(std::string_view config, Options& options) {
  config = trim(config);
  if (auto checked = check_string(config); !checked) {
    return checked;
  }
  auto settings = split_string(config, options);
  if (!settings) {
    return fail(std::move(settings).error());
  }
  const bool names_conf = std::any_of(settings->begin(), settings->end(),
                                      [](const Setting& s) { return s.key == "conf"; });
  return apply_settings(*settings, names_conf ? Accept::live_only : Accept::all, options);
}

}  // namespace

const char* Options::first_static_difference(const Options& other) const {
  if (origin != other.origin) return "origin";
  if (alternates != other.alternates) return "alternate";
  if (dest != other.dest) return "dest";
  if (meta != other.meta) return "meta";
  if (origin_token != other.origin_token) return "origin_token";
  if (origin_ca != other.origin_ca) return "origin_ca";
  if (conf != other.conf) return "conf";
  if (region_size != other.region_size) return "region_size";
  if (write_cache != other.write_cache) return "write_cache";
  if (read_only != other.read_only) return "ro";
  if (!init_overwrite && other.init_overwrite) return "init";  // Done, it may go.
  return nullptr;
}

Result<Options> parse_config(std::string_view config) {
  Options options;
  if (auto applied = apply_string(config, options); !applied) {
    return fail(std::move(applied).error());
  }
  if (auto rates = check_rates(options); !rates) {
    return fail(std::move(rates).error());
  }
  if (options.conf.empty()) {
    if (auto whole = check_whole(options, ""); !whole) {
      return fail(std::move(whole).error());
    }
    if (auto open = check_credentials("origin", options.origin); !open) {
      return fail(std::move(open).error());
    }
    for (const std::string& alternate : options.alternates) {
      if (auto open = check_credentials("alternate", alternate); !open) {
        return fail(std::move(open).error());
      }
    }
  }
  return options;
}

Result<Options> parse_conf_text(std::string_view text, std::string_view file,
                                std::string_view config) {
  Options options;
  const auto settings = split_file(text, file);
  if (!settings) {
    return fail(settings.error());
  }
  if (auto applied = apply_settings(*settings, Accept::all_but_conf, options); !applied) {
    return fail(std::move(applied).error());
  }
  if (auto whole = check_whole(options, fmt::format("{}: ", file)); !whole) {
    return fail(std::move(whole).error());
  }
  if (auto applied = apply_string(config, options); !applied) {
    return fail(std::move(applied).error());
  }
  if (auto rates = check_rates(options); !rates) {
    return fail(std::move(rates).error());
  }
  return options;
}

}  // namespace clonedev
