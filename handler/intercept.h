// What becomes of a command before the runner's own emulation sees it.
//
// The runner asks here first, for every command, on the LUN's command thread. Nearly everything but
// READ, WRITE, SYNCHRONIZE CACHE and COMPARE AND WRITE is ours, since the runner's own
//   INQUIRY           shows the config string to every initiator, has an 8-bit length that wraps,
//                     and kills a daemon built with _FORTIFY_SOURCE=3
//   MODE SENSE        knows no write protection up to 1.5.4, and denies FUA
//   UNMAP             takes as many ranges as the list says it has, whole or not; drops errors
//   WRITE SAME        with UNMAP discards without looking at the block to be written
//   WRITE AND VERIFY  always compares, and has no 12-byte form
//   FORMAT UNIT       never ends above 2^32 blocks, ignores write errors, blocks the LUN
//   EXTENDED COPY     walks the daemon's devices without a lock and reads a freed command
// and the rest it has not at all.
//
// This callout cannot complete a command later. One that takes I/O goes through the side door: its
// operation code is replaced by that of SYNCHRONIZE CACHE, of which the runner looks at nothing
// else, and so comes back at once, on the same thread, as the `flush` callout, which may; take()
// tells that one what it really is.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "device_commands.h"
#include "scsi/command_set.h"
#include "scsi/disk.h"
#include "tcmu_abi.h"

namespace clonedev {

// Are there target port groups besides the kernel's default one? `alua_dir` is a configfs folder; a
// missing one has none.
bool has_own_port_groups(const std::string& alua_dir);

// Of one device of the runner. Thread: the LUN's command thread.
class Intercept {
 public:
  struct Protection {
    bool write_cache = false;
    bool write_protected = false;
  };

  // `alua_dir`: the device's "alua" folder in configfs. `protection`: as it is at present.
  Intercept(tcmu_device* device, std::string alua_dir, std::function<Protection()> protection);

  // A TCMU_STS_: final, or NOT_HANDLED to let the runner go on.
  int handle(tcmur_cmd& cmd);

  // What handle() has sent through the side door just before; nothing: a real SYNCHRONIZE CACHE.
  std::optional<DeviceCommand> take(tcmur_cmd& cmd);

 private:
  struct Underway {
    const tcmur_cmd* cmd;
    std::uint8_t opcode;
    DeviceCommand command;
  };

  scsi::Disk disk() const;
  int answer_at_once(tcmulib_cmd& cmd, const scsi::Disk& disk);
  int inquire(tcmulib_cmd& cmd, const scsi::Disk& disk);
  int send_to_device(tcmur_cmd& cmd, const scsi::Disk& disk);
  const std::string& unit_serial();

  tcmu_device* const device_;
  const std::string alua_dir_;
  const std::function<Protection()> protection_;
  std::optional<Underway> underway_;
  // Set by targetcli after `open`, so read at the first use. Kept from then on: configfs is locked
  // while the kernel removes the device, and the kernel allows no change while it is exported.
  std::string unit_serial_;
};

}  // namespace clonedev
