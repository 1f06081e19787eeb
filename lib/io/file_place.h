// Whether two paths name one and the same file or device.
#pragma once

#include <string>

namespace clonedev {

// "device:inode" of the file that a path names, or of the block device behind the node; empty when
// there is nothing. Links are followed. Thread: any.
std::string place_of(const std::string& path);

}  // namespace clonedev
