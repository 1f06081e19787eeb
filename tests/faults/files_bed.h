// One cell of the matrix on real files, by the whole CloneDevice. The clone runs in a child process
// which does what the cell says, tells how it went, and is killed (SIGKILL) at once; the test then
// opens what it has left, first with the fault still there, then healed, and compares every block.
//
// Complaints are gtest failures. Thread: one; no other thread may be there, since it forks.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>

#include "clonedev/clone_device.h"
#include "faults/fault_table.h"
#include "support/shadow_disk.h"
#include "support/small_tmpfs.h"

namespace clonedev {

class FilesBed {
 public:
  // `destination_dir`: a tmpfs that can be filled, for the cells of a full destination; else null.
  FilesBed(const Cell& cell, SmallTmpfs* destination_dir);
  ~FilesBed();
  FilesBed(const FilesBed&) = delete;
  FilesBed& operator=(const FilesBed&) = delete;

  void run(const Expectation& expected);

 private:
  struct Answer {
    bool ready = false;  // The disk was laid out.
    int error = 0;       // Errc of the activity, 0: none.
    std::uint64_t made_short = 0;
    char text[256] = {};
  };

  // In the child.
  void live_and_die(int answer_pipe);
  Answer live();
  bool lay_out(CloneDevice& device);
  Result<> act(CloneDevice& device);
  Result<> hydrate(CloneDevice& device);

  Answer in_child();
  void open_under_fault(const Expectation& expected);
  void plan();
  void settle(const Answer& answer);
  void judge_opened(const Result<>& outcome, const Expectation& expected);
  void make_older_copy();
  void inject();
  void heal();
  Result<std::unique_ptr<CloneDevice>> open();
  Result<std::unique_ptr<CloneDevice>> open_while_locked();
  void verify(CloneDevice& device);
  std::filesystem::path target_path() const;

  const Cell cell_;
  SmallTmpfs* const destination_dir_;
  std::filesystem::path folder_;
  OpenRequest request_;
  std::optional<ShadowDisk> shadow_;
  std::vector<ShadowDisk::Change> laid_out_;  // Two, then a FLUSH, then the rest.
  std::optional<ShadowDisk::Change> change_;
};

}  // namespace clonedev
