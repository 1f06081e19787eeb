// Every LUN of this process by name, those that failed to open with the reason. Thread: any.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "clonedev/status.h"

namespace clonedev {

class Lun;

// What a failed LUN looks like to whoever asks.
Status failed_status(std::string name, std::string reason);

class LunRegistry {
 public:
  struct Entry {
    std::string name;
    std::shared_ptr<Lun> lun;  // Null: it failed to open.
    std::string reason;        // Why, if so.
  };

  // A failure stays until the name opens, or until too many others have failed after it: the runner
  // does not tell when a device that never opened goes away.
  static constexpr std::size_t kMostFailures = 256;

  bool is_open(const std::string& name) const;
  // Replaces a failure of that name.
  void add(std::shared_ptr<Lun> lun);
  // Does nothing if a LUN of that name is open.
  void add_failure(const std::string& name, std::string reason);
  void remove(const std::string& name);
  // False: no failure of that name is known.
  bool forget_failure(const std::string& name);

  std::optional<Entry> find(const std::string& name) const;
  std::vector<Entry> all() const;  // By name.

 private:
  void forget_oldest_failure();

  struct Slot {
    std::shared_ptr<Lun> lun;
    std::string reason;
    std::uint64_t order = 0;
  };

  mutable std::mutex mutex_;
  std::map<std::string, Slot> slots_;  // Guarded by mutex_, as are the two below.
  std::size_t failures_ = 0;
  std::uint64_t next_order_ = 0;
};

}  // namespace clonedev
