// The folder of the live maps: a tmpfs of its own, limited in size, so that a page of a map can
// always be told to be there or not, and nothing else in /run suffers (I13).
#pragma once

#include <string>

#include "clonedev/clone_device.h"
#include "clonedev/error.h"

namespace clonedev {

// <run_dir>/live, made and mounted when it is missing. Thread: any, one at a time.
Result<std::string> live_dir(const Site& site);

}  // namespace clonedev
