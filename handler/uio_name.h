// Who a TCMU device is. The runner knows, but tells a handler only the uio device; its name in
// sysfs is "tcm-user/<hba>/<name>/<config string>".
#pragma once

#include <string>
#include <string_view>

#include "clonedev/error.h"

namespace clonedev {

struct UioName {
  std::string hba;   // "user_0": the directory in configfs.
  std::string name;  // The backstore's name, as targetcli has it.
};

Result<UioName> parse_uio_name(std::string_view text);

// Reads <sys_dir>/class/uio/<uio>/name.
Result<UioName> read_uio_name(const std::string& sys_dir, const std::string& uio);

}  // namespace clonedev
