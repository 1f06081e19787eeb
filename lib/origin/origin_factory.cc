#include "origin/origin_factory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/config_value.h"
#include "origin/file_origin.h"
#include "origin/http_origin.h"
#include "origin/iscsi_origin.h"
#include "origin/nbd_origin.h"
#include "origin/origin_name.h"

namespace clonedev {
namespace {

constexpr const char* kKinds =
    "an absolute path, file:PATH, nbd://, nbds://, nbd+unix://, http://, https:// or iscsi://";

std::string_view scheme_of(std::string_view spec) {
  const std::size_t colon = spec.find(':');
  if (spec.starts_with('/') || colon == std::string_view::npos) return {};
  return spec.substr(0, colon);
}

Result<OriginFactory> file_factory(std::string_view spec, Reactor& reactor) {
  const std::string_view path = config::local_path(spec);
  if (path.empty()) {
    return fail(Errc::bad_config,
                fmt::format("origin {}: is not an absolute path: give {}", spec, kKinds));
  }
  return
      [&reactor, file = std::string(path)] { return std::make_unique<FileOrigin>(reactor, file); };
}

Result<OriginFactory> nbd_factory(std::string_view spec, Reactor& reactor,
                                  OriginSettings settings) {
  return [&reactor, settings, uri = std::string(spec)] {
    return std::make_unique<NbdOrigin>(reactor, uri, settings.timeout, settings.connections);
  };
}

Result<OriginFactory> iscsi_factory(std::string_view spec, Reactor& reactor,
                                    OriginSettings settings) {
  return [&reactor, settings, url = std::string(spec)] {
    return std::make_unique<IscsiOrigin>(reactor, url, settings.timeout, settings.connections);
  };
}

Result<OriginFactory> http_factory(std::string_view spec, Reactor& reactor,
                                   const OriginSettings& settings) {
  auto target = HttpTarget::parse(spec);
  if (!target) {
    return fail(Errc::bad_config,
                fmt::format("origin {}: {}", origin_name(spec), target.error().context));
  }
  target->token = settings.token;
  target->ca_file = settings.ca_file;
  return [&reactor, patience = settings.timeout, rest = std::make_shared<HttpRest>(),
          shared = std::make_shared<const HttpTarget>(std::move(*target))] {
    return std::make_unique<HttpOrigin>(reactor, shared, patience, rest);
  };
}

bool same_server(std::string_view origin, const std::string& alternate) {
  if (!config::is_http(origin) || !config::is_http(alternate)) return false;
  const auto target = HttpTarget::parse(origin);
  return target && target->same_server(alternate);
}

}  // namespace

Result<std::vector<OriginCandidate>> origin_candidates(std::string_view origin,
                                                       std::span<const std::string> alternates,
                                                       const OriginMaker& make,
                                                       const OriginSettings& settings) {
  std::vector<OriginCandidate> candidates;
  auto first = make(origin, settings);
  if (!first) return fail(first.error());
  candidates.push_back({origin_name(origin), std::move(*first)});
  for (const std::string& alternate : alternates) {
    OriginSettings its = settings;
    if (!same_server(origin, alternate)) its.token.clear();
    auto factory = make(alternate, its);
    if (!factory) return fail(factory.error());
    candidates.push_back({origin_name(alternate), std::move(*factory)});
  }
  return candidates;
}

Result<OriginFactory> origin_factory(std::string_view spec, Reactor& reactor,
                                     OriginSettings settings) {
  const std::string_view scheme = scheme_of(spec);
  if (scheme.empty() || scheme == "file") return file_factory(spec, reactor);
  const bool nbd = scheme == "nbd" || scheme == "nbds" || scheme == "nbd+unix";
  if (nbd && spec.substr(scheme.size()).starts_with("://")) {
    return nbd_factory(spec, reactor, settings);
  }
  if (spec.starts_with("iscsi://")) return iscsi_factory(spec, reactor, settings);
  const bool http = scheme == "http" || scheme == "https";
  if (http && spec.substr(scheme.size()).starts_with("://")) {
    return http_factory(spec, reactor, settings);
  }
  return fail(Errc::bad_config, fmt::format("origin {}: '{}:' is no kind of origin: give {}",
                                            origin_name(spec), scheme, kKinds));
}

}  // namespace clonedev
