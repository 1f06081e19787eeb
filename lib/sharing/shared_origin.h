// A clone's end of an origin that it shares with others of this process (origin_hub.h).
#pragma once

#include "origin/origin_factory.h"

namespace clonedev {

// As origin_factory(), for a `reactor` that reads together with the others of this process. Files
// and block devices are not shared: the kernel does that.
Result<OriginFactory> shared_origin_factory(std::string_view spec, Reactor& reactor,
                                            const OriginSettings& settings);

}  // namespace clonedev
