#include "attached_lun.h"

#include <syslog.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runner_log.h"
#include "uio_name.h"

namespace clonedev {
namespace {

struct Shape {
  std::uint32_t block_bytes = 0;
  std::uint64_t size_bytes = 0;
};

Result<Shape> shape_of(tcmu_device* device, const std::string& name) {
  const std::uint32_t block = tcmu_dev_get_block_size(device);
  if (block != 512 && block != 4096) {
    return fail(Errc::bad_config,
                name + ": hw_block_size is " + std::to_string(block) +
                    ": only 512 and 4096 are possible: create it with one of them");
  }
  return Shape{block, tcmu_dev_get_num_lbas(device) * block};
}

// Over the runner's defaults, which it sets before `open`.
void describe_to_runner(tcmu_device* device, std::uint32_t block_bytes, bool write_cache) {
  tcmu_dev_set_write_cache_enabled(device, write_cache);  // MODE SELECT is left to it.
  // The kernel's default is 64 KiB and cannot be changed once the device exists.
  const std::uint32_t transfer = scsi::kGoodTransferBytes / block_bytes;
  if (tcmu_dev_get_max_xfer_len(device) < transfer) tcmu_dev_set_max_xfer_len(device, transfer);
}

// What the writer of an attribute gets.
int errno_of(std::error_code code) {
  if (code == Errc::no_space || code == Errc::live_map_full) return -ENOSPC;
  if (code == Errc::busy) return -EAGAIN;
  return code == Errc::refused ? -EINVAL : -EIO;
}

void trim(std::string& text) {
  // `echo` into the attribute brings a newline along.
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
    text.pop_back();
  }
}

Result<std::shared_ptr<Lun>> open_lun(tcmu_device* device, const HandlerSite& here,
                                      const std::string& name, const std::string& config) {
  auto options = load_config(config, here.conf_dir);
  if (!options) return fail(options.error());
  for (const std::string& warning : options->warnings) {
    runner_log(LOG_WARNING, name + ": " + warning);
  }
  const auto shape = shape_of(device, name);
  if (!shape) return fail(shape.error());
  auto clone = CloneDevice::open(OpenRequest{name, shape->size_bytes, *options, here.site});
  if (!clone) return fail(clone.error());
  try {
    auto lun = std::make_shared<Lun>(device, name, *options, std::move(*clone));
    describe_to_runner(device, shape->block_bytes, options->write_cache);
    // It may have grown to more than the kernel's configuration says.
    tcmu_dev_set_num_lbas(device, lun->status().size_bytes / shape->block_bytes);
    return lun;
  } catch (const std::system_error& error) {
    return fail(Errc::unavailable, name + ": no threads left (" + error.what() +
                                       "): raise the daemon's limits and create the LUN again");
  }
}

}  // namespace

Result<std::unique_ptr<AttachedLun>> AttachedLun::open(tcmu_device* device, const HandlerSite& here,
                                                       LunRegistry& registry) {
  const auto who = read_uio_name(here.sys_dir, tcmu_dev_get_uio_name(device));
  if (!who) return fail(who.error());
  if (registry.is_open(who->name)) {
    return fail(Errc::in_use, who->name + ": a clone LUN of that name is open already (" +
                                  who->hba + " is the second): give it another name");
  }
  std::string config = tcmu_dev_get_cfgstring(device);
  trim(config);
  auto lun = open_lun(device, here, who->name, config);
  if (!lun) {
    registry.add_failure(who->name, lun.error().message());
    return fail(lun.error());
  }
  const std::string alua_dir =
      here.sys_dir + "/kernel/config/target/core/" + who->hba + "/" + who->name + "/alua";
  std::unique_ptr<AttachedLun> attached(
      new AttachedLun(device, here, registry, alua_dir, std::move(config), *lun));
  registry.add(*lun);
  return attached;
}

AttachedLun::AttachedLun(tcmu_device* device, const HandlerSite& here, LunRegistry& registry,
                         std::string alua_dir, std::string config, std::shared_ptr<Lun> lun)
    : conf_dir_(here.conf_dir),
      block_bytes_(tcmu_dev_get_block_size(device)),
      registry_(registry),
      lun_(std::move(lun)),
      intercept_(device, std::move(alua_dir),
                 [this] {
                   return Intercept::Protection{lun_->write_cache(), lun_->write_protected()};
                 }),
      config_(std::move(config)) {}

int AttachedLun::reconfigure(const tcmulib_cfg_info& change) {
  switch (change.type) {
    case TCMULIB_CFG_DEV_CFGSTR:
      return change_config(change.data.dev_cfgstring);
    case TCMULIB_CFG_WRITE_CACHE:
      return change_write_cache(change.data.write_cache);
    case TCMULIB_CFG_DEV_SIZE:
      return change_size(change.data.dev_size);
  }
  runner_log(LOG_ERR, lun_->name() + ": unknown kind of reconfiguration: refused");
  return -EOPNOTSUPP;
}

int AttachedLun::change_config(std::string config) {
  trim(config);
  if (config == config_) return 0;
  const auto options = load_config(config, conf_dir_);
  const Result<> done =
      options ? lun_->reconfigure(*options) : Result<>(tl::unexpected(options.error()));
  if (!done) {
    runner_log(LOG_ERR, lun_->name() + ": dev_config: " + done.error().message());
    return -EINVAL;
  }
  config_ = std::move(config);
  runner_log(LOG_INFO, lun_->name() + ": dev_config: the live keys apply from now on");
  return 0;
}

int AttachedLun::change_write_cache(bool on) {
  // The kernel's attribute is 0 unless somebody sets it, and a restore writes that 0 back. The
  // config string is the one owner of the write cache: it alone decides whether it is safe.
  if (on != lun_->write_cache() && !told_write_cache_) {
    told_write_cache_ = true;
    runner_log(LOG_INFO, lun_->name() + ": emulate_write_cache is ignored: the write cache is " +
                             (lun_->write_cache() ? "on" : "off") +
                             ", as write_cache= in the config string says");
  }
  return 0;
}

// The runner takes the new size, and has a unit attention for it, when this returns 0.
int AttachedLun::change_size(std::uint64_t dev_size) {
  const std::uint64_t size = dev_size / block_bytes_ * block_bytes_;
  if (const Result<> grown = lun_->grow(size); !grown) {
    runner_log(LOG_ERR, lun_->name() + ": dev_size: stays as it was: " + grown.error().message());
    return errno_of(grown.error().code);
  }
  runner_log(LOG_NOTICE, lun_->name() + ": has " + std::to_string(size) + " bytes from now on");
  return 0;
}

void AttachedLun::close() {
  registry_.remove(lun_->name());
  if (const Result<> closed = lun_->close(); !closed) {
    runner_log(LOG_ERR, lun_->name() + ": closing: " + closed.error().message());
  }
}

}  // namespace clonedev
