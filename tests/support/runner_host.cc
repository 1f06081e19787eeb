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
#include <functional>
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
  std::vector<iovec> iovecs;
  tcmulib_cmd lib{};
  tcmur_cmd cmd{};

  std::mutex mutex;
  std::condition_variable ended;
  int status = 0;
  int completions = 0;
};

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

std::uint64_t lba_of(const Bytes& cdb) {
  switch (cdb_bytes(cdb[0])) {
    case 6:
      return (cdb[1] & 0x1fU) << 16 | big_endian(&cdb[2], 2);
    case 16:
      return big_endian(&cdb[2], 8);
    default:
      return big_endian(&cdb[2], 4);
  }
}

// Blocks, or bytes of a parameter list.
std::uint32_t transfer_of(const Bytes& cdb) {
  switch (cdb_bytes(cdb[0])) {
    case 6:
      return cdb[4];
    case 10:
      return static_cast<std::uint32_t>(big_endian(&cdb[7], 2));
    case 12:
      return static_cast<std::uint32_t>(big_endian(&cdb[6], 4));
    default:
      return static_cast<std::uint32_t>(big_endian(&cdb[10], 4));
  }
}

std::size_t length_of(const std::vector<iovec>& iovecs) {
  std::size_t length = 0;
  for (const iovec& piece : iovecs) length += piece.iov_len;
  return length;
}

bool inside(const tcmu_device& device, std::uint64_t lba, std::uint64_t blocks) {
  return lba + blocks <= device.blocks && lba + blocks >= lba;
}

Command& owner(tcmur_cmd* cmd) { return *static_cast<Command*>(cmd->cmd_state); }

void finish(Command& command, int status) {
  const std::lock_guard lock(command.mutex);
  command.status = status;
  ++command.completions;
  command.ended.notify_all();
}

void on_plain_done(tcmu_device*, tcmur_cmd* cmd, int status) { finish(owner(cmd), status); }

// A command that nobody waits for: it ends with the call of `ended`.
struct LooseCommand : Command {
  std::function<void(int)> on_end;
};

void end_loose(LooseCommand& command, int status) {
  const std::unique_ptr<LooseCommand> ended(&command);
  ended->on_end(status);
}

void on_loose_done(tcmu_device*, tcmur_cmd* cmd, int status) {
  end_loose(static_cast<LooseCommand&>(owner(cmd)), status);
}

int complete_at_once(Command& command) {
  finish(command, TCMU_STS_OK);
  return TCMU_STS_OK;
}

int start_compare_and_write(tcmu_device& device, Command& command) {
  const std::uint8_t blocks = command.cdb[13];
  const std::size_t length = length_of(command.iovecs);
  if (blocks == 0) return complete_at_once(command);
  if (blocks > 1) return TCMU_STS_INVALID_CDB;
  if (length != 2 * device.block_bytes) return TCMU_STS_HW_ERR;
  const std::uint64_t lba = lba_of(command.cdb);
  if (!inside(device, lba, blocks)) return TCMU_STS_RANGE;
  return device.handler->caw(&device, &command.cmd, lba * device.block_bytes, length / 2,
                             command.lib.iovec, command.lib.iov_cnt);
}

int start_transfer(tcmu_device& device, Command& command, decltype(tcmur_handler::read) callout) {
  const std::uint64_t lba = lba_of(command.cdb);
  const std::uint64_t length = std::uint64_t{transfer_of(command.cdb)} * device.block_bytes;
  if (length_of(command.iovecs) != length) return TCMU_STS_HW_ERR;
  if (!inside(device, lba, transfer_of(command.cdb))) return TCMU_STS_RANGE;
  return callout(&device, &command.cmd, command.lib.iovec, command.lib.iov_cnt, length,
                 static_cast<off_t>(lba * device.block_bytes));
}

// What the daemon does with a command that the handler has left to it.
int dispatch(tcmu_device& device, Command& command) {
  switch (command.cdb[0]) {
    case 0x08:
    case 0x28:
    case 0xa8:
    case 0x88:
      return start_transfer(device, command, device.handler->read);
    case 0x0a:
    case 0x2a:
    case 0xaa:
    case 0x8a:
      return start_transfer(device, command, device.handler->write);
    case 0x35:
    case 0x91:
      return device.handler->flush(&device, &command.cmd);
    case 0x89:
      return start_compare_and_write(device, command);
    default:
      return TCMU_STS_NOT_HANDLED;
  }
}

void prepare(Command& command) {
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

std::size_t cdb_bytes(std::uint8_t opcode) {
  constexpr std::array<std::size_t, 8> kByGroup{6, 10, 10, 0, 16, 12, 0, 0};
  return kByGroup[opcode >> 5];
}

tcmur_handler* start_handler(int (*init)()) { return init() == 0 ? registered_handler : nullptr; }

tcmur_handler* load_handler(const std::string& path) {
  void* const plugin = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (plugin == nullptr) {
    std::fprintf(stderr, "%s\n", ::dlerror());
    return nullptr;
  }
  auto* const init = reinterpret_cast<int (*)()>(::dlsym(plugin, "handler_init"));
  tcmur_handler* const handler = init != nullptr ? start_handler(init) : nullptr;
  if (handler == nullptr) {
    std::fprintf(stderr, "%s: handler_init is missing or failed\n", path.c_str());
  }
  return handler;
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

// dev_resize() of the runner.
int HostLun::reconfigure_size(std::uint64_t bytes) {
  if (device_->blocks == bytes / device_->block_bytes) return 0;
  tcmulib_cfg_info change{};
  change.type = TCMULIB_CFG_DEV_SIZE;
  change.data.dev_size = bytes;
  const int result = device_->handler->reconfig(device_.get(), &change);
  if (result == 0) device_->blocks = bytes / device_->block_bytes;
  return result;
}

int HostLun::reconfigure_write_cache(bool on) {
  tcmulib_cfg_info change{};
  change.type = TCMULIB_CFG_WRITE_CACHE;
  change.data.write_cache = on;
  return device_->handler->reconfig(device_.get(), &change);
}

const HostAttributes& HostLun::attributes() const { return device_->attributes; }

Reply HostLun::execute(const Bytes& cdb, const std::vector<iovec>& buffers) {
  Command command;
  command.device = device_.get();
  command.cdb = cdb;
  command.iovecs = buffers;
  prepare(command);

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
  return reply;
}

void HostLun::start(const Bytes& cdb, const std::vector<iovec>& buffers,
                    std::function<void(int)> ended) {
  auto* const command = new LooseCommand;
  command->device = device_.get();
  command->cdb = cdb;
  command->iovecs = buffers;
  command->on_end = std::move(ended);
  prepare(*command);
  command->cmd.done = on_loose_done;
  int status = device_->handler->handle_cmd(device_.get(), &command->cmd);
  const bool answered = status != TCMU_STS_NOT_HANDLED;
  if (!answered) status = dispatch(*device_, *command);
  if (answered || status != TCMU_STS_OK) end_loose(*command, status);
}

Reply HostLun::execute(const Bytes& cdb, const Bytes& data_out, std::size_t data_in) {
  constexpr std::size_t kPiece = 4096;
  Bytes data = data_out;
  if (data_in > 0) data.assign(data_in, 0xdd);
  std::vector<iovec> buffers;
  for (std::size_t at = 0; at < data.size(); at += kPiece) {
    buffers.push_back({data.data() + at, std::min(kPiece, data.size() - at)});
  }
  Reply reply = execute(cdb, buffers);
  if (data_in > 0) reply.data = std::move(data);
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
void tcmu_dev_set_num_lbas(tcmu_device* dev, uint64_t num_lbas) { dev->blocks = num_lbas; }
uint32_t tcmu_dev_get_block_size(tcmu_device* dev) { return dev->block_bytes; }
void tcmu_dev_set_max_xfer_len(tcmu_device* dev, uint32_t len) {
  dev->attributes.max_xfer_len = len;
}
uint32_t tcmu_dev_get_max_xfer_len(tcmu_device* dev) { return dev->attributes.max_xfer_len; }
void tcmu_dev_set_write_cache_enabled(tcmu_device* dev, bool on) {
  dev->attributes.write_cache = on;
}
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
