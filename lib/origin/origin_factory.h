// From the `origin` of a configuration to something that makes Origins of it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

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

}  // namespace clonedev
