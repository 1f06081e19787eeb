// Opens what a crash may leave and compares it with what a ShadowDisk allows.
//
// After a power cut every image of the metadata device (CrashImages) is opened by the real
// MetadataStore::attach, as the next boot would. That gives the states of the blocks, and with them
// a sector's value follows from what the destination holds in that sector alone: so it suffices to
// try every content of every sector once to have judged every subset of the destination's
// unflushed sectors with that image. Some images are opened by a whole engine, too, which reads,
// hydrates to the end and compares; in some the power is cut again at each step of the attach,
// which must always lead to the same authorities.
//
// A complaint is a sentence; an empty string is none. Thread: one. Not inside a coroutine.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "support/clone_rig.h"
#include "support/shadow_disk.h"

namespace clonedev {

class CrashJudge {
 public:
  struct Counts {
    std::uint64_t points = 0;      // Moments at which the machine, and the daemon, died.
    std::uint64_t images = 0;      // Contents of the metadata device after a power cut.
    std::uint64_t opened = 0;      // Those of them that were opened: the others had been already.
    std::uint64_t recoveries = 0;  // Opened after another power cut while one of these was opened.
    std::uint64_t engines = 0;     // Opened by a whole engine.
    std::uint64_t kills = 0;
    double states = 0;  // Pairs of a content of the metadata and one of the destination.
  };
  // One of so many images is opened in that way; 1: each.
  struct Sampling {
    std::uint64_t recovery = 16;
    std::uint64_t engine = 64;
  };

  CrashJudge(Sampling sampling, Counts& counts);
  ~CrashJudge();
  CrashJudge(const CrashJudge&) = delete;
  CrashJudge& operator=(const CrashJudge&) = delete;

  // Where the shadow lies on the disk. Images of other disks are forgotten.
  void look_at(Extent window);

  // The power goes now, or the daemon dies.
  std::string power_cut(const CloneRig& rig, const ShadowDisk& shadow);
  std::string kill(const CloneRig& rig, const ShadowDisk& shadow);
  // What the engine of a rig that is not open yet finds in the window. An error, too, when a block
  // is `copied` there, but differs from the origin.
  Result<Bytes> found_by(CloneRig& rig) const;

 private:
  using States = std::vector<BlockState>;  // Of the window.
  using Contents = std::vector<std::vector<Bytes>>;

  const States& states_in(const MemoryDevice& image, const CloneRig& rig, const ShadowDisk& shadow);
  Result<States> open(BlockDevice& image, const CloneRig& rig, SimScheduler& sim);
  void recover(const MemoryDevice& image, const CloneRig& rig, const States& expected);
  void try_engine(const MemoryDevice& image, const CloneRig& rig, const ShadowDisk& shadow);
  Contents destination_contents(const VolatileDevice& disk) const;
  void compare(const States& states, const Contents& destination, const ShadowDisk& shadow,
               const CloneRig& rig);
  void compare(ShadowDisk::Death how, const Bytes& found, const ShadowDisk& shadow);
  void complain(const std::string& text);

  const Sampling sampling_;
  Counts& counts_;
  std::filesystem::path live_dir_;
  Extent window_;
  std::unordered_map<std::uint64_t, States> opened_;  // By fingerprint.
  std::string complaint_;
};

}  // namespace clonedev
