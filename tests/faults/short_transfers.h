// Makes the kernel transfer less than it was asked for, as it may at any time: this stands between
// liburing and the kernel and cuts every readv and writev of the chosen file in half, to odd
// lengths too, so what comes back is a real transfer that ended early.
//
// For files that do not need O_DIRECT. Thread: the switch any, before and after the I/O it is for.
#pragma once

#include <cstdint>
#include <string>

namespace clonedev {

// An empty path ends it.
void make_transfers_short(const std::string& path);
std::uint64_t transfers_made_short();

}  // namespace clonedev
