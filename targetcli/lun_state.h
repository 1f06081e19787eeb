// What commands that wait for a LUN, or depend on its being complete, make of its status.
#pragma once

#include <string>

#include "control_client.h"

namespace clonectl {

// False: not yet. Throws a CommandError when the LUN has failed.
bool is_complete(const Json& lun, const std::string& name);

}  // namespace clonectl
