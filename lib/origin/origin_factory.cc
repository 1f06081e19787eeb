#include "origin/origin_factory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "core/config_value.h"
#include "origin/file_origin.h"
#include "origin/nbd_origin.h"
#include "origin/origin_name.h"

namespace clonedev {
namespace {

constexpr const char* kKinds = "an absolute path, file:PATH, nbd://, nbds:// or nbd+unix://";

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

}  // namespace

Result<OriginFactory> origin_factory(std::string_view spec, Reactor& reactor,
                                     OriginSettings settings) {
  const std::string_view scheme = scheme_of(spec);
  if (scheme.empty() || scheme == "file") return file_factory(spec, reactor);
  const bool nbd = scheme == "nbd" || scheme == "nbds" || scheme == "nbd+unix";
  if (nbd && spec.substr(scheme.size()).starts_with("://")) {
    return nbd_factory(spec, reactor, settings);
  }
  return fail(Errc::bad_config, fmt::format("origin {}: '{}:' is no kind of origin: give {}",
                                            origin_name(spec), scheme, kKinds));
}

}  // namespace clonedev
