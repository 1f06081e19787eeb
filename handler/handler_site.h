// Where this process finds and keeps its files. The defaults are the installed system's; tests set
// environment variables:
//   TCMU_CLONE_STATE_DIR  instead of /var/lib/tcmu-clone
//   TCMU_CLONE_RUN_DIR    instead of /run/tcmu-clone; also: no tmpfs is mounted there
//   TCMU_CLONE_CONF_DIR   instead of /etc/tcmu/clone.d
//   TCMU_CLONE_SOCKET     instead of <run dir>/control.sock
//   TCMU_CLONE_SYS_DIR    instead of /sys
#pragma once

#include <string>

#include "clonedev/clone_device.h"

namespace clonedev {

struct HandlerSite {
  Site site;
  std::string conf_dir = "/etc/tcmu/clone.d";
  std::string socket_path = "/run/tcmu-clone/control.sock";
  std::string sys_dir = "/sys";

  static HandlerSite from_environment();
};

}  // namespace clonedev
