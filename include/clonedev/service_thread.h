// A thread of ours inside the daemon. It takes none of the daemon's signals, which belong to the
// daemon's main loop.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace clonedev {

// `name` is cut to the 15 bytes that the kernel keeps. Throws std::system_error when there are no
// threads left. Thread: any.
std::thread start_service_thread(const std::string& name, std::function<void()> body);

}  // namespace clonedev
