// What this machine remembers of the clones it has opened: <state_dir>/known/NAME. A clone whose
// metadata or destination has gone (an unmounted file system, say) must never be started afresh
// in silence; only this record can tell.
//
// Thread: any, one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "clonedev/error.h"

namespace clonedev {

struct KnownClone {
  std::string uuid;
  std::string dest;
  std::string meta;
  // Of the superblock, when the clone was last attached or detached here: metadata with a lower one
  // are an old copy.
  std::uint64_t sequence = 0;
  // Bytes: the smallest size from which it has grown here, so that an older configuration is known
  // for what it is. 0: it has not.
  std::uint64_t grown_from = 0;
};

class KnownClones {
 public:
  explicit KnownClones(const std::string& state_dir) : dir_(state_dir + "/known") {}

  Result<std::optional<KnownClone>> find(const std::string& name) const;
  // Durable when it returns. The same record again costs nothing.
  Result<> remember(const std::string& name, const KnownClone& clone) const;
  // Durable when it returns. Forgetting what is not known is no error.
  Result<> forget(const std::string& name) const;
  // The file to remove in order to forget a clone.
  std::string path(const std::string& name) const;

 private:
  std::string dir_;
};

}  // namespace clonedev
