// From a device of the runner to a clone and back: what the callouts open, close and reconfig do.
//
// Thread: the daemon's main thread (a restart's first opens included); never two at a time for one
// device. These may wait: for locks of a predecessor still on its way out, for a new clone's
// origin.
#pragma once

#include <memory>
#include <string>

#include "handler_site.h"
#include "intercept.h"
#include "lun.h"
#include "lun_registry.h"
#include "tcmu_abi.h"

namespace clonedev {

class AttachedLun {
 public:
  // Reads who the device is, opens the clone, tells the runner what the LUN can do and enters it
  // into the registry, also when it fails. `registry` outlives the LUN.
  static Result<std::unique_ptr<AttachedLun>> open(tcmu_device* device, const HandlerSite& here,
                                                   LunRegistry& registry);

  AttachedLun(const AttachedLun&) = delete;
  AttachedLun& operator=(const AttachedLun&) = delete;

  Lun& lun() { return *lun_; }
  Intercept& intercept() { return intercept_; }

  // What a write to the device's attributes asks for: 0 or a negative errno for the writer, with a
  // line in the log. A restore writes every attribute back, so what is already so is always fine.
  int reconfigure(const tcmulib_cfg_info& change);

  void close();

 private:
  AttachedLun(tcmu_device* device, const HandlerSite& here, LunRegistry& registry,
              std::string alua_dir, std::string config, std::shared_ptr<Lun> lun);

  int change_config(std::string config);
  int change_write_cache(bool on);
  int change_size(std::uint64_t dev_size);

  const std::string conf_dir_;
  const std::uint32_t block_bytes_;
  LunRegistry& registry_;
  const std::shared_ptr<Lun> lun_;  // Shared with the control service.
  Intercept intercept_;             // Command thread.

  // Main thread.
  std::string config_;  // As last applied; the runner keeps only the first one.
  bool told_write_cache_ = false;
};

}  // namespace clonedev
