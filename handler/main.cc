// The plugin's face to tcmu-runner: handler_init and one thin function a callout.
//
// nr_threads is 0: I/O callouts run on the LUN's command thread and only start things. Returning
// TCMU_STS_OK means that tcmur_cmd_complete follows. There is no `unmap` and no `writesame`: these
// commands come through the side door (intercept.h), and none of the runner's compound commands,
// which would call us from inside tcmur_cmd_complete, is left to it. No callout is noexcept or has
// a catch (...): the runner cancels threads, and a cancellation that meets one of them ends the
// daemon.
#include <sys/types.h>
#include <syslog.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <new>

#include "attached_lun.h"
#include "cancel_guard.h"
#include "handler.h"
#include "runner_log.h"
#include "tcmu_abi.h"

namespace clonedev {
namespace {

AttachedLun* attached(tcmu_device* device) {
  return static_cast<AttachedLun*>(tcmur_dev_get_private(device));
}

std::span<const iovec> buffers(const iovec* iovecs, std::size_t count) { return {iovecs, count}; }

bool on_check_config(const char* config, char** reason) {
  const CancelGuard guard;
  try {
    const auto options = parse_config(config);
    if (options) return true;
    *reason = ::strdup(options.error().message().c_str());
  } catch (const std::exception& error) {
    *reason = ::strdup(error.what());
  }
  return false;
}

int on_open(tcmu_device* device, bool /*reopen*/) {
  const CancelGuard guard;
  Handler& handler = Handler::instance();
  tcmur_dev_set_private(device, nullptr);
  try {
    auto opened = AttachedLun::open(device, handler.site(), handler.registry());
    if (opened) {
      runner_log(LOG_INFO, (*opened)->lun().name() + ": the clone is open");
      tcmur_dev_set_private(device, opened->release());
      return 0;
    }
    runner_log(LOG_ERR, "open failed: " + opened.error().message());
  } catch (const std::exception& error) {
    runner_log(LOG_ERR, std::string("open failed: ") + error.what());
  }
  return -EIO;
}

void on_close(tcmu_device* device) {
  const CancelGuard guard;
  const std::unique_ptr<AttachedLun> closing(attached(device));
  if (!closing) return;
  closing->close();
  // Only now: what was under way until here could still ask for it.
  tcmur_dev_set_private(device, nullptr);
}

int on_reconfig(tcmu_device* device, tcmulib_cfg_info* change) {
  const CancelGuard guard;
  AttachedLun* const lun = attached(device);
  if (lun == nullptr) return -ENODEV;
  try {
    return lun->reconfigure(*change);
  } catch (const std::exception& error) {
    runner_log(LOG_ERR, lun->lun().name() + ": reconfiguration failed: " + error.what());
    return -EIO;
  }
}

int on_handle_cmd(tcmu_device* device, tcmur_cmd* cmd) {
  const CancelGuard guard;
  AttachedLun* const lun = attached(device);
  if (lun == nullptr) return TCMU_STS_NOT_HANDLED;
  try {
    return lun->intercept().handle(*cmd);
  } catch (const std::bad_alloc&) {
    return TCMU_STS_NO_RESOURCE;
  }
}

int on_read(tcmu_device* device, tcmur_cmd* cmd, iovec* iovecs, std::size_t count,
            std::size_t length, off_t offset) {
  const CancelGuard guard;
  const Extent extent{static_cast<std::uint64_t>(offset), length};
  return attached(device)->lun().read(cmd, buffers(iovecs, count), extent);
}

int on_write(tcmu_device* device, tcmur_cmd* cmd, iovec* iovecs, std::size_t count,
             std::size_t length, off_t offset) {
  const CancelGuard guard;
  const Extent extent{static_cast<std::uint64_t>(offset), length};
  return attached(device)->lun().write(cmd, buffers(iovecs, count), extent);
}

int on_flush(tcmu_device* device, tcmur_cmd* cmd) {
  const CancelGuard guard;
  AttachedLun& lun = *attached(device);
  if (auto command = lun.intercept().take(*cmd)) return lun.lun().run(cmd, std::move(*command));
  return lun.lun().flush(cmd);
}

int on_caw(tcmu_device* device, tcmur_cmd* cmd, std::uint64_t offset, std::uint64_t length,
           iovec* iovecs, std::size_t count) {
  const CancelGuard guard;
  return attached(device)->lun().compare_and_write(cmd, buffers(iovecs, count),
                                                   Extent{offset, length});
}

int on_init() {
  try {
    set_log_sink(runner_log_sink);
    Handler::instance().start();
    return 0;
  } catch (const std::exception& error) {
    runner_log(LOG_ERR, std::string("tcmu-clone cannot start: ") + error.what());
    return -EIO;
  }
}

void on_destroy() { Handler::instance().stop(); }

tcmur_handler make_handler() {
  tcmur_handler handler{};
  handler.name = "Instant writable clone of a remote disk";
  handler.subtype = "clone";
  handler.cfg_desc = config_help();
  handler.check_config = on_check_config;
  handler.reconfig = on_reconfig;
  handler.open = on_open;
  handler.close = on_close;
  handler.nr_threads = 0;
  handler.handle_cmd = on_handle_cmd;
  handler.read = on_read;
  handler.write = on_write;
  handler.flush = on_flush;
  handler.caw = on_caw;
  handler.init = on_init;
  handler.destroy = on_destroy;
  return handler;
}

}  // namespace
}  // namespace clonedev

extern "C" __attribute__((visibility("default"))) int handler_init(void) {
  // The runner keeps the pointer and never unloads the plugin.
  static tcmur_handler* const handler = new tcmur_handler(clonedev::make_handler());
  static const int registered = tcmur_register_handler(handler);
  return registered;
}
