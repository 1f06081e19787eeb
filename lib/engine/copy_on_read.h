// What a user's READ has fetched from the origin is kept on the destination, behind the answer.
//
// It is a copy like the hydrator's, through the Copier: read holding nothing, then a claim, a look
// at every block, and only what is still the origin's is written (I6). It is a favour, so nothing
// waits for it and nothing is queued for it: while memory is short, the destination does not keep
// up or takes nothing, or something has failed for good (I10), the data are dropped.
//
// Units: bytes. Thread: one scheduler. Ownership: everything in Parts outlives it; idle() has ended
// before it is destroyed.
#pragma once

#include "engine/copier.h"
#include "engine/fetcher.h"
#include "engine/hydrator.h"

namespace clonedev {

class CopyOnRead {
 public:
  struct Parts {
    const BufferPool& pool;
    const StateMap& map;
    Copier& copier;
    Hydrator& hydrator;  // Knows whether the destination takes copies, and counts them.
  };

  explicit CopyOnRead(Parts parts) : parts_(parts) {}

  void enable(bool on) { enabled_ = on; }
  bool enabled() const { return enabled_; }
  // Keeps the whole blocks of it, or does not; from now on it is nobody else's task.
  void offer(const Fetcher::Shared& fetched);
  // Takes nothing from this call on.
  void end() { ended_ = true; }
  // Returns when nothing is being written.
  Task<> idle();

 private:
  bool keeps_up(std::uint64_t bytes) const;
  Task<> keep(Fetcher::Shared fetched);

  Parts parts_;
  bool enabled_ = true;
  bool ended_ = false;
  std::uint64_t landing_ = 0;
  Gate copies_;
};

}  // namespace clonedev
