// From the `origin` of a configuration to something that makes Origins of it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/reactor.h"
#include "origin/origin.h"

namespace clonedev {

struct OriginSettings {
  // No answer for so long while some are outstanding, or no connection within it: given up.
  std::chrono::milliseconds timeout{20'000};
  unsigned connections = 4;
  // For http:// and https://. The token is a secret.
  std::string token = {};
  std::string ca_file = {};
};

// Makes a fresh Origin, not yet opened. Thread: the reactor's.
using OriginFactory = std::function<std::unique_ptr<Origin>()>;

// `spec`: an absolute path, file:PATH, nbd://, nbds://, nbd+unix://, http://, https:// or iscsi://.
// Names of files are taken as they are; NBD and HTTP URIs are libnbd's and libcurl's to decode.
// Looks at no path and no server. The reactor outlives the factory and what it makes. Errors:
// Errc::bad_config. Thread: any.
Result<OriginFactory> origin_factory(std::string_view spec, Reactor& reactor,
                                     OriginSettings settings);

// One of the places that the content of a clone can be read from.
struct OriginCandidate {
  std::string name;  // As origin_name() makes it.
  OriginFactory factory;
};

// origin_factory() on a certain reactor, or what stands for it.
using OriginMaker =
    std::function<Result<OriginFactory>(std::string_view spec, const OriginSettings& settings)>;

// The `origin`, then its alternates, each by `make`. The token goes to the origin's own server
// only: an alternate gets it when scheme, host and port are the same. Otherwise as
// origin_factory().
Result<std::vector<OriginCandidate>> origin_candidates(std::string_view origin,
                                                       std::span<const std::string> alternates,
                                                       const OriginMaker& make,
                                                       const OriginSettings& settings);

}  // namespace clonedev
