// An initiator of a rig, of whose requests a ShadowDisk hears when they begin and end. What comes
// back is judged at once: data and failures that cannot be are a complaint.
//
// The disk may be much larger than what the shadow knows: extents are relative to `base`.
//
// Units: bytes, multiples of 512. Thread: one scheduler. Rig and shadow outlive the client, and the
// client every request that it serves.
#pragma once

#include <string>

#include "support/clone_rig.h"
#include "support/shadow_disk.h"

namespace clonedev {

class ShadowClient {
 public:
  struct Request {
    enum class Kind { read, write, zero, compare, flush };
    Kind kind = Kind::read;
    Extent extent;
    bool fua = false;
    Zeroing how = Zeroing::keep;
  };
  // Failures that the test has asked for.
  struct Excuses {
    bool origin = false;   // BUSY without an effect, or closed.
    bool durable = false;  // FLUSH and FUA fail; what they wrote may be there.
  };

  ShadowClient(CloneRig& rig, ShadowDisk& shadow, std::uint64_t base = 0)
      : rig_(rig), shadow_(shadow), base_(base) {}

  Task<> serve(Request request);
  // The process is dead: nobody hears what is answered from now on.
  void die() { dead_ = true; }

  unsigned under_way() const { return under_way_; }
  // So many requests were answered, and so many of them promised that something is durable.
  std::uint64_t answered() const { return answered_; }
  std::uint64_t promises() const { return promises_; }
  // Empty: all was well.
  const std::string& complaint() const { return complaint_; }

  Excuses excuses;

 private:
  Task<> serve_read(Extent extent);
  Task<> serve_flush();
  Task<> serve_change(Request request);
  Task<Result<>> execute(Request request, ShadowDisk::Number number, const Bytes& expected);
  void judge(const Request& request, const ShadowDisk::Change& change, const Bytes& expected,
             const Result<>& outcome);
  void judge_failure(const Request& request, const ShadowDisk::Change& change, const Error& error);
  void complain(const std::string& text);
  Extent on_disk(Extent extent) const { return {base_ + extent.offset, extent.length}; }

  CloneRig& rig_;
  ShadowDisk& shadow_;
  const std::uint64_t base_;
  bool dead_ = false;
  unsigned under_way_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t promises_ = 0;
  std::string complaint_;
};

}  // namespace clonedev
