// The folders that only the daemon's own user may enter: live maps, records of known clones.
#pragma once

#include <string>

#include "clonedev/error.h"

namespace clonedev {

// Makes it with mode 0700, and with 0755 the folders above it that are missing, whatever the umask.
// One that is there already must be this user's (a link that leads to it too) and not writable by
// others: what lies in it is believed. `role` begins the sentence of a refusal. Thread: any.
Result<> make_private_folder(const std::string& path, const std::string& role);

}  // namespace clonedev
