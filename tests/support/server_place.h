// Where a server of a test lives: a folder and a port of its own.
//
// Ownership: the folder is the caller's to remove. A port is free when it is told, not for ever:
// start again when somebody else has taken it.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace clonedev {

// An empty folder of mode 0700 under the folder for temporary files; its name begins with `prefix`.
std::filesystem::path make_scratch_folder(const std::string& prefix);

sockaddr_in loopback(std::uint16_t port);

// A TCP port of 127.0.0.1 that nobody listens on.
std::uint16_t free_port();

}  // namespace clonedev
