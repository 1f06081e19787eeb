// Removing destination and metadata of a clone that has been taken down: only those that are its
// own. A path may lead elsewhere by now: to another disk, another clone, one that another machine
// has attached.
//
// Thread: one. Errors: CommandError, also when somebody is using one of them; then none is removed
// that was not told of.
#pragma once

#include <string>

#include "engine/known_clones.h"

namespace clonectl {

// Tells of each whether it was removed or why it was kept.
void purge(const clonedev::KnownClone& known);

}  // namespace clonectl
