// One cell of the matrix on a CloneRig: real engine, metadata and live map on devices in memory.
//
//   1  a disk with blocks of every state, some of them not durable
//   2  the fault, and under it the activity: what the initiator sees is compared with the table
//   3  still under the fault: what a kill and what power cuts would leave is opened and judged by
//      the shadow; needs_check is there or not, as the table says
//   4  the fault is healed: all data are there, FLUSH fails still or works, as the table says; the
//      admin's way back; a power cut after that loses nothing
//
// Complaints are gtest failures. Thread: one.
#pragma once

#include <optional>

#include "faults/fault_table.h"
#include "support/shadow_disk.h"
#include "support/clone_rig.h"
#include "support/small_tmpfs.h"

namespace clonedev {

class MemoryBed {
 public:
  // `live_dir`: a tmpfs that can be filled, for the cells of a full live map; else null.
  MemoryBed(const Cell& cell, SmallTmpfs* live_dir);
  ~MemoryBed();

  void run(const Expectation& expected);
  // Operations of devices that failed because of the fault.
  std::uint64_t failed_operations() const { return failed_operations_; }

 private:
  void lay_out();
  void lay_out_one_state();
  void write_now(Extent extent);
  void flush_now(CloneRig& rig);

  void inject(CloneRig& rig);
  void inject_origin(CloneRig& rig);
  void inject_device(CloneRig& rig);
  void inject_live_map(CloneRig& rig);
  void corrupt_origin(CloneRig& rig);
  void corrupt_destination(CloneRig& rig);
  void corrupt_metadata(CloneRig& rig);
  void corrupt_live_map(CloneRig& rig);
  void heal(CloneRig& rig);
  void mend_origin(CloneRig& rig) const;

  void run_activity(const Expectation& expected);
  void run_open(const Expectation& expected);
  Task<Result<>> start();
  Task<Result<>> start_write(Extent extent);
  void judge(const Result<>& outcome, const Expectation& expected) const;
  void settle(const Result<>& outcome);
  void check_bytes_read();

  void after_death(const Expectation& expected) const;
  void after_healing(CloneRig& rig, const Expectation& expected);
  Bytes read_all(CloneRig& rig) const;
  void excuse_unseen(Extent extent, Bytes& found) const;
  bool refused_after_kill() const;
  bool metadata_stay_damaged() const;
  bool is(Target target, Fault fault) const {
    return cell_.target == target && cell_.fault == fault;
  }

  const Cell cell_;
  SmallTmpfs* const live_dir_;
  std::uint64_t failed_operations_ = 0;
  std::optional<CloneRig> rig_;
  std::optional<ShadowDisk> shadow_;
  Bytes origin_content_;
  std::string origin_identity_;

  // Of the activity.
  std::optional<ShadowDisk::Change> change_;
  std::optional<Extent> reading_;
  ShadowDisk::Time begun_ = 0;
  Bytes data_;

  std::vector<Extent> unseen_;  // Sectors whose bytes nobody can vouch for.
  Extent bad_unit_;             // Of the metadata, and what it held.
  Bytes good_unit_;
};

}  // namespace clonedev
