// dm-clone's messages (Documentation/admin-guide/device-mapper/dm-clone.rst, "Messages"): they
// change the running device and are forgotten when it is closed.
#pragma once

#include <string_view>

#include "clonedev/options.h"

namespace clonedev {

// The options as the message leaves them. Errc::bad_config: not a message, or a bad number.
Result<Options> apply_message(std::string_view words, Options options);

}  // namespace clonedev
