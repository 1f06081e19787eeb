// The commands that must not reach the runner's own emulation as they are.
//
// The runner asks here first, for every command, on the LUN's command thread; what is answered here
// is answered at once, since this callout cannot complete later. Why each one is here:
//   INQUIRY page 83      the runner's page shows the config string to every initiator, has an 8-bit
//                        length that wraps, and kills a daemon built with _FORTIFY_SOURCE=3
//   INQUIRY standard     promises EXTENDED COPY, see there
//   WRITE SAME + UNMAP   the runner discards without looking at the block to be written
//   UNMAP                the runner takes as many ranges as the list says it has, whole or not
//   FORMAT UNIT          never ends above 2^32 blocks, ignores write errors, blocks the LUN
//   EXTENDED COPY        walks the daemon's devices without a lock and reads a freed command
//   MODE SENSE           up to 1.5.4 knows no write protection; answered here while there is one
//   what changes data    on a write-protected LUN: an error of UNMAP would not reach the initiator
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tcmu_abi.h"

namespace clonedev::scsi {

enum class Verdict {
  leave,            // To the runner, maybe with the command block rewritten.
  invalid_command,  // 05/2000
  invalid_field,    // 05/2400
  standard_inquiry,
  device_identification,
  parameter_list,  // Of an UNMAP: to be looked at.
};

// `cdb` is libtcmu's private copy and may be rewritten: UNMAP of a WRITE SAME is taken out, so that
// the runner calls `writesame`, and remembered in the ANCHOR bit, which no runner looks at and
// which is refused when it comes from an initiator.
Verdict judge(std::uint8_t* cdb);

// Of a WRITE SAME that passed judge(): did the initiator want the space back?
bool wants_deallocation(const std::uint8_t* cdb);

std::array<std::uint8_t, 36> standard_inquiry_page();

// T10 vendor and NAA designators, byte for byte those of the runner and the kernel, so that a LUN
// keeps its identity for initiators that have seen it under another handler.
std::vector<std::uint8_t> device_identification_page(std::string_view unit_serial);

// What MODE SENSE tells of a LUN.
struct ModeParameters {
  bool write_cache = false;
  bool write_protected = false;
};

// The answer to MODE SENSE (6) or (10), with the pages that the runner has; empty when it has not
// the one that is asked for, or would have to save it.
std::vector<std::uint8_t> mode_sense_answer(const std::uint8_t* cdb, ModeParameters parameters);

// Copies what the initiator's ALLOCATION LENGTH admits and zeroes the rest of the buffer, which
// holds an earlier command's data. The iovecs stay as they are.
void answer_inquiry(const std::uint8_t* cdb, std::span<const std::uint8_t> page,
                    std::span<const iovec> buffer);

// Does the parameter list of an UNMAP hold the ranges that it says it has? One that the runner
// refuses itself, being too short for a head, does.
bool unmap_list_is_whole(const std::uint8_t* cdb, std::span<const iovec> list);

// Are there target port groups besides the kernel's default one? `alua_dir` is a configfs folder; a
// missing one has none.
bool has_own_port_groups(const std::string& alua_dir);

// Ties the above to one device of the runner. Thread: the LUN's command thread.
class Intercept {
 public:
  // `alua_dir`: the device's "alua" folder in configfs. `parameters`: as they are at present.
  Intercept(tcmu_device* device, std::string alua_dir, std::function<ModeParameters()> parameters);

  // A TCMU_STS_: final, or NOT_HANDLED to let the runner go on.
  int handle(tcmulib_cmd& cmd);

 private:
  int identify(tcmulib_cmd& cmd);
  int sense_mode(tcmulib_cmd& cmd, ModeParameters parameters);
  const std::string& unit_serial();

  tcmu_device* const device_;
  const std::string alua_dir_;
  const std::function<ModeParameters()> parameters_;
  // Set by targetcli after `open`, so read at the first use. Kept from then on: configfs is locked
  // while the kernel removes the device, and the kernel allows no change while it is exported.
  std::string unit_serial_;
};

}  // namespace clonedev::scsi
