// What the process has once: where its files are, its LUNs, the control socket.
#pragma once

#include <memory>

#include "control_service.h"
#include "handler_site.h"
#include "lun_registry.h"

namespace clonedev {

class Handler {
 public:
  // Never destroyed: the runner does not unload plugins, and static destructors run while threads
  // of ours may still be alive.
  static Handler& instance();

  const HandlerSite& site() const { return site_; }
  LunRegistry& registry() { return registry_; }

  // Main thread. A control socket that cannot be had is logged; the LUNs work without it.
  void start();
  void stop();

 private:
  Handler();

  const HandlerSite site_;
  LunRegistry registry_;
  std::unique_ptr<ControlService> control_;
};

}  // namespace clonedev
