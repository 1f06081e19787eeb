// The part of the config parser that the loader of conf files needs. Pure. Thread: any.
#pragma once

#include <string>
#include <string_view>

#include "clonedev/options.h"

namespace clonedev {

// `text` is the content of a conf file, `file` its name for messages, `config` the config string
// that named it, whose live keys override those of the file. Options::conf stays the string's.
Result<Options> parse_conf_text(std::string_view text, std::string_view file,
                                std::string_view config);

}  // namespace clonedev
