// A thread of ours inside the daemon. It takes none of the daemon's signals, which belong to the
// daemon's main loop, and has given up what it does not need of the daemon's rights: capabilities
// are a thread's own, so the daemon's threads keep theirs.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace clonedev {

// What a thread keeps of the capabilities of its maker.
enum class Rights {
  none,
  files,  // CAP_DAC_OVERRIDE: it opens again what was opened with the daemon's rights before.
};

// `name` is cut to the 15 bytes that the kernel keeps. Throws std::system_error when there are no
// threads left. Thread: any.
std::thread start_service_thread(const std::string& name, Rights rights,
                                 std::function<void()> body);

}  // namespace clonedev
