#include "handler_site.h"

#include <cstdlib>

namespace clonedev {
namespace {

bool take(const char* variable, std::string& into) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return false;
  into = value;
  return true;
}

}  // namespace

HandlerSite HandlerSite::from_environment() {
  HandlerSite here;
  take("TCMU_CLONE_STATE_DIR", here.site.state_dir);
  if (take("TCMU_CLONE_RUN_DIR", here.site.run_dir)) {
    here.site.mount_live_tmpfs = false;
    here.socket_path = here.site.run_dir + "/control.sock";
  }
  take("TCMU_CLONE_CONF_DIR", here.conf_dir);
  take("TCMU_CLONE_SOCKET", here.socket_path);
  take("TCMU_CLONE_SYS_DIR", here.sys_dir);
  return here;
}

}  // namespace clonedev
