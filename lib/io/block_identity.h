// What the kernel knows of a block device that stays true over reboots and renaming: the dm uuid,
// the WWN, or the parent's WWN with the partition's place.
//
// Thread: any.
#pragma once

#include <sys/types.h>

#include <string>

namespace clonedev {

// Printable, at most 150 bytes; empty when the kernel knows nothing such (a loop device, say).
std::string block_identity(dev_t device, const std::string& sysfs = "/sys/dev/block");

}  // namespace clonedev
