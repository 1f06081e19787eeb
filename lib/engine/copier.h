// What hydration has read from the origin is kept on the destination.
//
// A copy was read holding nothing; here it claims its range, looks at every block again, writes
// only what is still the origin's, and marks it when its bytes are there (I6, I7). Long runs of
// zeroes are not written: they become `zero`.
//
// Units: blocks. Thread: one scheduler. Ownership: Parts outlive the copier, and data the task.
#pragma once

#include "io/block_device.h"
#include "io/in_flight.h"
#include "metadata/metadata_store.h"

namespace clonedev {

class Copier {
 public:
  struct Parts {
    BlockDevice& destination;
    MetadataStore& metadata;
    InFlight& in_flight;
  };
  // What was done, also before an error.
  struct Kept {
    std::uint64_t bytes = 0;
    bool written = false;  // The destination has taken something.
  };

  explicit Copier(Parts parts) : parts_(parts) {}

  // `data` is the origin's content of `blocks`. Errc::live_map_full; of the destination's write.
  Task<Result<>> keep(BlockRange blocks, std::span<const std::byte> data, Kept& kept);

 private:
  Task<Result<>> write_run(BlockRange blocks, std::span<const std::byte> data, Kept& kept);
  const StateMap& map() const { return parts_.metadata.map(); }

  Parts parts_;
};

}  // namespace clonedev
