#include "intercept.h"

#include <dirent.h>

#include <cstdlib>
#include <memory>
#include <string_view>

#include "scsi/copy_list.h"
#include "scsi/data.h"
#include "scsi/inquiry.h"
#include "scsi/mode_sense.h"
#include "scsi/small_answers.h"

namespace clonedev {
namespace {

using scsi::big_endian;
using scsi::Sense;

int refuse(tcmulib_cmd& cmd, Sense sense) {
  return check_condition(SenseBuffer(cmd.sense_buf), sense);
}

int answer(tcmulib_cmd& cmd, std::span<const std::uint8_t> page, std::uint64_t allocation) {
  scsi::answer(page, static_cast<std::size_t>(allocation), {cmd.iovec, cmd.iov_cnt});
  return TCMU_STS_OK;
}

// Nothing is cached that could be fetched beforehand, which GOOD says (SBC-4 5.12).
int pre_fetch(tcmulib_cmd& cmd, const scsi::Disk& disk) {
  const scsi::Blocks blocks = scsi::blocks_of(cmd.cdb);
  if (!disk.holds(blocks.lba, blocks.count)) return refuse(cmd, scsi::kLbaOutOfRange);
  return answer(cmd, {}, 0);
}

// COMPARE AND WRITE goes on to the runner, which has other words for these.
bool has_wrong_length(const tcmulib_cmd& cmd, const scsi::Disk& disk) {
  if (cmd.cdb[0] != scsi::kCompareAndWrite) return false;
  const std::uint64_t blocks = scsi::blocks_of(cmd.cdb).count;
  const std::size_t length = scsi::length_of({cmd.iovec, cmd.iov_cnt});
  return blocks > scsi::kMostCompareAndWriteBlocks || length != 2 * blocks * disk.block_bytes;
}

}  // namespace

bool has_own_port_groups(const std::string& alua_dir) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(alua_dir.c_str()), ::closedir);
  if (!dir) return false;
  while (const dirent* const entry = ::readdir(dir.get())) {
    const std::string_view name(entry->d_name);
    if (name != "." && name != ".." && name != "default_tg_pt_gp") return true;
  }
  return false;
}

Intercept::Intercept(tcmu_device* device, std::string alua_dir,
                     std::function<Protection()> protection)
    : device_(device), alua_dir_(std::move(alua_dir)), protection_(std::move(protection)) {}

scsi::Disk Intercept::disk() const {
  const Protection protection = protection_();
  return {.block_bytes = tcmu_dev_get_block_size(device_),
          .blocks = tcmu_dev_get_num_lbas(device_),
          .most_transfer_blocks = tcmu_dev_get_max_xfer_len(device_),
          .write_cache = protection.write_cache,
          .write_protected = protection.write_protected};
}

int Intercept::handle(tcmur_cmd& runners) {
  underway_.reset();
  tcmulib_cmd& cmd = *runners.lib_cmd;
  const scsi::Command* const command = scsi::find_command(cmd.cdb);
  if (command == nullptr) {
    // A reservation that the kernel was told not to keep, and what neither side knows.
    return refuse(cmd, scsi::find_opcode(cmd.cdb[0]) != nullptr ? scsi::kInvalidFieldInCdb
                                                                : scsi::kInvalidOperationCode);
  }
  if (needs_port_groups(*command) && !has_own_port_groups(alua_dir_)) {
    return refuse(cmd, scsi::kInvalidOperationCode);
  }
  if (command->has_unknown_flag(cmd.cdb)) return refuse(cmd, scsi::kInvalidFieldInCdb);
  const scsi::Disk disk = this->disk();
  if (command->changes_data && disk.write_protected) return refuse(cmd, scsi::kWriteProtected);
  if (has_wrong_length(cmd, disk)) return refuse(cmd, scsi::kInvalidFieldInCdb);
  switch (command->answerer) {
    case scsi::Answerer::at_once:
      return answer_at_once(cmd, disk);
    case scsi::Answerer::device:
      return send_to_device(runners, disk);
    case scsi::Answerer::kernel:
    case scsi::Answerer::runner:
      break;
  }
  return TCMU_STS_NOT_HANDLED;
}

int Intercept::answer_at_once(tcmulib_cmd& cmd, const scsi::Disk& disk) {
  const std::uint8_t* const cdb = cmd.cdb;
  switch (cdb[0]) {
    case scsi::kInquiry:
      return inquire(cmd, disk);
    case scsi::kModeSense6:
    case scsi::kModeSense10: {
      const auto page = scsi::mode_sense_page(cdb, disk);
      if (page.empty()) return refuse(cmd, scsi::mode_sense_refusal(cdb));
      return answer(cmd, page, scsi::mode_sense_allocation(cdb));
    }
    case scsi::kRequestSense:
      return answer(cmd, scsi::no_sense(cdb), cdb[4]);
    case scsi::kReadDefectData10:
      return answer(cmd, scsi::no_defects(cdb), big_endian(cdb + 7, 2));
    case scsi::kReadDefectData12:
      return answer(cmd, scsi::no_defects(cdb), big_endian(cdb + 6, 4));
    case scsi::kServiceActionIn16:
      return answer(cmd, scsi::read_capacity_16(disk), big_endian(cdb + 10, 4));
    case scsi::kReceiveCopyResults:
      return answer(cmd, scsi::copy_operating_parameters(disk), big_endian(cdb + 10, 4));
    case scsi::kMaintenanceIn: {
      const auto page = scsi::supported_operation_codes(cdb, has_own_port_groups(alua_dir_));
      if (!page) return refuse(cmd, scsi::kInvalidFieldInCdb);
      return answer(cmd, *page, big_endian(cdb + 6, 4));
    }
    default:
      return pre_fetch(cmd, disk);
  }
}

int Intercept::inquire(tcmulib_cmd& cmd, const scsi::Disk& disk) {
  // Whoever sets up target port groups gets the pages that tell of them from the runner, which
  // alone knows its ports; config string included.
  if (scsi::inquiry_tells_of_ports(cmd.cdb) && has_own_port_groups(alua_dir_)) {
    return TCMU_STS_NOT_HANDLED;
  }
  const bool needs_serial = scsi::inquiry_needs_serial(cmd.cdb);
  if (needs_serial && unit_serial().empty()) return TCMU_STS_HW_ERR;
  const auto page = scsi::inquiry_page(cmd.cdb, disk, needs_serial ? unit_serial() : "");
  if (page.empty()) return refuse(cmd, scsi::kInvalidFieldInCdb);
  return answer(cmd, page, big_endian(cmd.cdb + 3, 2));
}

int Intercept::send_to_device(tcmur_cmd& cmd, const scsi::Disk& disk) {
  tcmulib_cmd& lib = *cmd.lib_cmd;
  const std::uint8_t opcode = lib.cdb[0];
  auto prepared =
      prepare_device_command(lib, disk, opcode == scsi::kExtendedCopy ? unit_serial() : "");
  if (!prepared) return refuse(lib, prepared.error());
  if (!prepared->steps) return TCMU_STS_NO_RESOURCE;
  underway_ = Underway{&cmd, opcode, std::move(*prepared)};
  lib.cdb[0] = scsi::kSynchronizeCache10;
  return TCMU_STS_NOT_HANDLED;
}

std::optional<DeviceCommand> Intercept::take(tcmur_cmd& cmd) {
  if (!underway_ || underway_->cmd != &cmd) return std::nullopt;
  cmd.lib_cmd->cdb[0] = underway_->opcode;
  std::optional<DeviceCommand> taken = std::move(underway_->command);
  underway_.reset();
  return taken;
}

const std::string& Intercept::unit_serial() {
  if (unit_serial_.empty()) {
    const std::unique_ptr<char, void (*)(void*)> read(tcmu_cfgfs_dev_get_wwn(device_), std::free);
    if (read) unit_serial_ = read.get();
  }
  return unit_serial_;
}

}  // namespace clonedev
