#pragma GCC visibility push(default)
#include "tcmu_abi.h"
#pragma GCC visibility pop

#include <dlfcn.h>

#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <utility>

#include "runner_host.h"

struct tcmu_device {
  tcmur_handler* handler = nullptr;
  std::string uio;
  std::string config;
  std::string unit_serial;
  std::uint64_t blocks = 0;
  std::uint32_t block_bytes = 0;
  clonedev::testing::HostAttributes attributes;
  void* handlers_own = nullptr;
  bool is_open = false;
};

namespace clonedev::testing {
namespace {

tcmur_handler* registered_handler = nullptr;

std::mutex log_mutex;
std::vector<std::string> log_lines;

void append_log(const char* level, const char* format, va_list arguments) {
  char text[255];  // The runner's own limit.
  std::vsnprintf(text, sizeof text, format, arguments);
  const std::lock_guard lock(log_mutex);
  log_lines.push_back(std::string(level) + ": " + text);
}

// One command with everything libtcmu would keep for it.
struct Command {
  tcmu_device* device = nullptr;
  Bytes cdb;
  Bytes data;
  std::vector<iovec> iovecs;
  tcmulib_cmd lib{};
  tcmur_cmd cmd{};

  std::mutex mutex;
  std::condition_variable ended;
  int status = 0;
  int completions = 0;
  int parts_left = 1;  // UNMAP: descriptors under way and one for their issuer.
  Bytes read_back;     // WRITE VERIFY.
  iovec read_back_iovec{};
};

Command& owner(tcmur_cmd* cmd) { return *static_cast<Command*>(cmd->cmd_state); }

void finish(Command& command, int status) {
  const std::lock_guard lock(command.mutex);
  command.status = status;
  ++command.completions;
  command.ended.notify_all();
}

void on_plain_done(tcmu_device*, tcmur_cmd* cmd, int status) { finish(owner(cmd), status); }

void drop_part(Command& command) {
  bool last = false;
  {
    const std::lock_guard lock(command.mutex);
    last = --command.parts_left == 0;
  }
  // As in the daemon: whatever the parts ended with, the UNMAP has succeeded.
  if (last) finish(command, TCMU_STS_OK);
}

void on_part_done(tcmu_device*, tcmur_cmd* part, int) {
  Command& command = owner(part);
  delete part;
  drop_part(command);
}

void on_verify_read_done(tcmu_device*, tcmur_cmd* cmd, int status) {
  Command& command = owner(cmd);
  const bool same = command.read_back == command.data;
  finish(command, status == TCMU_STS_OK && !same ? TCMU_STS_MISCOMPARE : status);
}

void on_verify_write_done(tcmu_device* device, tcmur_cmd* cmd, int status) {
  Command& command = owner(cmd);
  if (status != TCMU_STS_OK) {
    finish(command, status);
    return;
  }
  command.read_back.resize(command.data.size());
  command.read_back_iovec = {command.read_back.data(), command.read_back.size()};
  cmd->done = on_verify_read_done;
  std::uint64_t lba = 0;
  for (int i = 2; i < 10; ++i) lba = lba << 8 | command.cdb[static_cast<std::size_t>(i)];
  const int taken =
      device->handler->read(device, cmd, &command.read_back_iovec, 1, command.read_back.size(),
                            static_cast<off_t>(lba * device->block_bytes));
  if (taken != TCMU_STS_OK) finish(command, taken);
}

std::uint64_t big_endian(const std::uint8_t* from, int bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value = value << 8 | from[i];
  return value;
}

void put_big_endian(Bytes& into, std::size_t at, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    into[at + static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
  }
}

// The parts complete the command.
int start_unmap(tcmu_device& device, Command& command) {
  const std::uint64_t descriptors = big_endian(&command.data[2], 2) / 16;
  for (std::uint64_t i = 0; i < descriptors; ++i) {
    const std::uint8_t* const at = &command.data[8 + 16 * i];
    auto* const part = new tcmur_cmd{};
    part->lib_cmd = &command.lib;
    part->cmd_state = &command;
    part->done = on_part_done;
    {
      const std::lock_guard lock(command.mutex);
      ++command.parts_left;
    }
    const int taken = device.handler->unmap(&device, part, big_endian(at, 8) * device.block_bytes,
                                            big_endian(at + 8, 4) * device.block_bytes);
    if (taken != TCMU_STS_OK) on_part_done(&device, part, taken);
  }
  drop_part(command);
  return TCMU_STS_OK;
}

int dispatch(tcmu_device& device, Command& command) {
  const tcmur_handler& handler = *device.handler;
  tcmur_cmd* const cmd = &command.cmd;
  const std::uint8_t* const cdb = command.cdb.data();
  const bool has_address = command.cdb.size() == 16;
  const std::uint64_t offset = has_address ? big_endian(cdb + 2, 8) * device.block_bytes : 0;
  iovec* const iovecs = command.lib.iovec;
  const std::size_t count = command.lib.iov_cnt;
  switch (cdb[0]) {
    case 0x88:
      return handler.read(&device, cmd, iovecs, count, command.data.size(),
                          static_cast<off_t>(offset));
    case 0x8a:
      return handler.write(&device, cmd, iovecs, count, command.data.size(),
                           static_cast<off_t>(offset));
    case 0x8e:
      cmd->done = on_verify_write_done;
      return handler.write(&device, cmd, iovecs, count, command.data.size(),
                           static_cast<off_t>(offset));
    case 0x91:
      return handler.flush(&device, cmd);
    case 0x42:
      return start_unmap(device, command);
    case 0x93:
      // The daemon would discard here, without a look at the block.
      if ((cdb[1] & 0x08) != 0) return TCMU_STS_HW_ERR;
      return handler.writesame(&device, cmd, offset, big_endian(cdb + 10, 4) * device.block_bytes,
                               iovecs, count);
    case 0x89:
      return handler.caw(&device, cmd, offset, command.data.size() / 2, iovecs, count);
    default:
      return TCMU_STS_NOT_HANDLED;
  }
}

void lay_out(Command& command) {
  constexpr std::size_t kPiece = 4096;
  for (std::size_t at = 0; at < command.data.size(); at += kPiece) {
    command.iovecs.push_back(
        {command.data.data() + at, std::min(kPiece, command.data.size() - at)});
  }
  command.lib.cdb = command.cdb.data();
  command.lib.iovec = command.iovecs.data();
  command.lib.iov_cnt = command.iovecs.size();
  std::memset(command.lib.sense_buf, 0xee, sizeof command.lib.sense_buf);
  command.lib.hm_private = &command.cmd;
  command.cmd.lib_cmd = &command.lib;
  command.cmd.cmd_state = &command;
  command.cmd.done = on_plain_done;
}

void wait_for_end(Command& command) {
  std::unique_lock lock(command.mutex);
  const bool ended = command.ended.wait_for(lock, std::chrono::seconds(60),
                                            [&] { return command.completions > 0; });
  if (ended) return;
  std::fprintf(stderr, "command %02x was never completed\n", command.cdb[0]);
  std::abort();
}

}  // namespace

tcmur_handler* load_handler(const std::string& path) {
  void* const plugin = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) {
    std::fprintf(stderr, "%s\n", ::dlerror());
    return nullptr;
  }
  auto* const init = reinterpret_cast<int (*)()>(::dlsym(plugin, "handler_init"));
  if (init == nullptr || init() != 0) {
    std::fprintf(stderr, "%s: handler_init is missing or failed\n", path.c_str());
    return nullptr;
  }
  return registered_handler;
}

std::vector<std::string> take_log() {
  const std::lock_guard lock(log_mutex);
  return std::exchange(log_lines, {});
}

HostLun::HostLun(tcmur_handler& handler, Setup setup) : device_(new tcmu_device) {
  static int next_uio = 0;
  device_->handler = &handler;
  device_->uio = "uio" + std::to_string(next_uio++);
  device_->config = setup.config;
  device_->unit_serial = setup.unit_serial;
  device_->block_bytes = setup.block_bytes;
  device_->blocks = setup.size_bytes / setup.block_bytes;
  const std::filesystem::path folder = setup.sys_dir + "/class/uio/" + device_->uio;
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "name") << "tcm-user/0/" << setup.name << '/' << setup.config << '\n';
}

HostLun::~HostLun() {
  if (device_->is_open) close();
}

int HostLun::open() {
  const int result = device_->handler->open(device_.get(), false);
  device_->is_open = result == 0;
  return result;
}

void HostLun::close() {
  device_->is_open = false;
  device_->handler->close(device_.get());
}

int HostLun::reconfigure_config(const std::string& config) {
  std::string copy = config;
  tcmulib_cfg_info change{};
  change.type = TCMULIB_CFG_DEV_CFGSTR;
  change.data.dev_cfgstring = copy.data();
  return device_->handler->reconfig(device_.get(), &change);
}

int HostLun::reconfigure_size(std::uint64_t bytes) {
  tcmulib_cfg_info change{};
  change.type = TCMULIB_CFG_DEV_SIZE;
  change.data.dev_size = bytes;
  return device_->handler->reconfig(device_.get(), &change);
}

int HostLun::reconfigure_write_cache(bool on) {
  tcmulib_cfg_info change{};
  change.type = TCMULIB_CFG_WRITE_CACHE;
  change.data.write_cache = on;
  return device_->handler->reconfig(device_.get(), &change);
}

const HostAttributes& HostLun::attributes() const { return device_->attributes; }

Reply HostLun::execute(const Bytes& cdb, const Bytes& data_out, std::size_t data_in) {
  Command command;
  command.device = device_.get();
  command.cdb = cdb;
  command.data = data_out;
  if (data_in > 0) command.data.assign(data_in, 0xdd);
  lay_out(command);

  int status = device_->handler->handle_cmd(device_.get(), &command.cmd);
  const bool answered = status != TCMU_STS_NOT_HANDLED;
  if (!answered) status = dispatch(*device_, command);
  if (!answered && status == TCMU_STS_OK) {
    wait_for_end(command);
    status = command.status;
  }
  Reply reply;
  // The completer may still hold the lock it signalled under.
  const std::lock_guard lock(command.mutex);
  reply.status = status;
  reply.completions = command.completions;
  std::memcpy(reply.sense.data(), command.lib.sense_buf, reply.sense.size());
  if (data_in > 0) reply.data = std::move(command.data);
  return reply;
}

Reply HostLun::read(std::uint64_t offset, std::size_t length) {
  Bytes cdb(16);
  cdb[0] = 0x88;
  put_big_endian(cdb, 2, offset / device_->block_bytes, 8);
  put_big_endian(cdb, 10, length / device_->block_bytes, 4);
  return execute(cdb, {}, length);
}

Reply HostLun::write(std::uint64_t offset, const Bytes& data, bool fua) {
  Bytes cdb(16);
  cdb[0] = 0x8a;
  cdb[1] = fua ? 0x08 : 0;
  put_big_endian(cdb, 2, offset / device_->block_bytes, 8);
  put_big_endian(cdb, 10, data.size() / device_->block_bytes, 4);
  return execute(cdb, data);
}

Reply HostLun::write_verify(std::uint64_t offset, const Bytes& data) {
  Bytes cdb(16);
  cdb[0] = 0x8e;
  put_big_endian(cdb, 2, offset / device_->block_bytes, 8);
  put_big_endian(cdb, 10, data.size() / device_->block_bytes, 4);
  return execute(cdb, data);
}

Reply HostLun::flush() {
  Bytes cdb(16);
  cdb[0] = 0x91;
  return execute(cdb);
}

Reply HostLun::unmap(std::uint64_t offset, std::uint64_t length) {
  Bytes cdb(10);
  cdb[0] = 0x42;
  cdb[8] = 24;
  Bytes list(24);
  put_big_endian(list, 0, 22, 2);
  put_big_endian(list, 2, 16, 2);
  put_big_endian(list, 8, offset / device_->block_bytes, 8);
  put_big_endian(list, 16, length / device_->block_bytes, 4);
  return execute(cdb, list);
}

Reply HostLun::write_same(std::uint64_t offset, std::uint64_t length, const Bytes& block,
                          bool unmap) {
  Bytes cdb(16);
  cdb[0] = 0x93;
  cdb[1] = unmap ? 0x08 : 0;
  put_big_endian(cdb, 2, offset / device_->block_bytes, 8);
  put_big_endian(cdb, 10, length / device_->block_bytes, 4);
  return execute(cdb, block);
}

Reply HostLun::compare_and_write(std::uint64_t offset, const Bytes& expected, const Bytes& data) {
  Bytes cdb(16);
  cdb[0] = 0x89;
  cdb[13] = static_cast<std::uint8_t>(expected.size() / device_->block_bytes);
  put_big_endian(cdb, 2, offset / device_->block_bytes, 8);
  Bytes both = expected;
  both.insert(both.end(), data.begin(), data.end());
  return execute(cdb, both);
}

Reply HostLun::inquiry(bool vital_product_data, std::uint8_t page) {
  return execute({0x12, static_cast<std::uint8_t>(vital_product_data ? 1 : 0), page, 0, 0xfc, 0},
                 {}, 0xfc);
}

}  // namespace clonedev::testing

extern "C" {

int tcmur_register_handler(tcmur_handler* handler) {
  if (clonedev::testing::registered_handler != nullptr) return -1;
  if (handler->init != nullptr && handler->init() != 0) return -1;
  clonedev::testing::registered_handler = handler;
  return 0;
}

void tcmur_cmd_complete(tcmu_device* dev, void* cmd, int status) {
  auto* const command = static_cast<tcmur_cmd*>(cmd);
  command->done(dev, command, status);
}

void tcmur_dev_set_private(tcmu_device* dev, void* own) { dev->handlers_own = own; }
void* tcmur_dev_get_private(tcmu_device* dev) { return dev->handlers_own; }

const char* tcmu_dev_get_uio_name(tcmu_device* dev) { return dev->uio.c_str(); }
char* tcmu_dev_get_cfgstring(tcmu_device* dev) { return dev->config.data(); }
uint64_t tcmu_dev_get_num_lbas(tcmu_device* dev) { return dev->blocks; }
uint32_t tcmu_dev_get_block_size(tcmu_device* dev) { return dev->block_bytes; }
void tcmu_dev_set_max_xfer_len(tcmu_device* dev, uint32_t len) {
  dev->attributes.max_xfer_len = len;
}
uint32_t tcmu_dev_get_max_xfer_len(tcmu_device* dev) { return dev->attributes.max_xfer_len; }
void tcmu_dev_set_opt_xcopy_rw_len(tcmu_device* dev, uint32_t len) {
  dev->attributes.opt_xcopy_rw_len = len;
}
void tcmu_dev_set_max_unmap_len(tcmu_device* dev, uint32_t len) {
  dev->attributes.max_unmap_len = len;
}
void tcmu_dev_set_opt_unmap_gran(tcmu_device* dev, uint32_t len, bool split) {
  dev->attributes.opt_unmap_gran = len;
  dev->attributes.split_unmaps = split;
}
void tcmu_dev_set_unmap_gran_align(tcmu_device* dev, uint32_t len) {
  dev->attributes.unmap_gran_align = len;
}
void tcmu_dev_set_write_cache_enabled(tcmu_device* dev, bool on) {
  dev->attributes.write_cache = on;
}
void tcmu_dev_set_solid_state_media(tcmu_device* dev, bool on) { dev->attributes.solid_state = on; }
void tcmu_dev_set_unmap_enabled(tcmu_device* dev, bool on) { dev->attributes.unmap = on; }
char* tcmu_cfgfs_dev_get_wwn(tcmu_device* dev) { return strdup(dev->unit_serial.c_str()); }

void tcmu_err_message(tcmu_device*, const char*, int, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  clonedev::testing::append_log("error", format, arguments);
  va_end(arguments);
}
void tcmu_warn_message(tcmu_device*, const char*, int, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  clonedev::testing::append_log("warning", format, arguments);
  va_end(arguments);
}
void tcmu_info_message(tcmu_device*, const char*, int, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  clonedev::testing::append_log("info", format, arguments);
  va_end(arguments);
}
void tcmu_dbg_message(tcmu_device*, const char*, int, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  clonedev::testing::append_log("debug", format, arguments);
  va_end(arguments);
}

}  // extern "C"
