// What commands make of the status of a LUN.
#pragma once

#include <string>

#include "control_client.h"

namespace clonectl {

// A text as a terminal may show it; empty: the value is none.
std::string text_of(const Json& value);

// False: not yet. Throws a CommandError when the LUN has failed.
bool is_complete(const Json& lun, const std::string& name);

}  // namespace clonectl
