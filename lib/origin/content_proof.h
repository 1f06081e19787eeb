// Whether an alternate holds what the origin holds, whatever each calls it.
//
// Two servers name the same content differently: another ETag, another time of last change. So
// content is compared, at 256 places that chance chooses anew for each clone that is opened. Before
// the origin was seen in this life of the clone, only what the clone remembers of it can be
// compared: its identity, or the 16 samples in that.
//
// Thread: the scheduler's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "origin/origin.h"

namespace clonedev {

class ContentProof {
 public:
  // `seed` chooses the places.
  explicit ContentProof(std::uint64_t seed) : seed_(seed) {}

  // Looks at the origin, once. A place that cannot be read proves nothing and is left out.
  // Errors: Errc::unavailable.
  Task<Result<>> learn(Origin& origin);

  // `identity` and `size` are those of the origin, `found` is the alternate's identity.
  // Errc::foreign: it holds something else. Errc::unavailable: that cannot be told at present.
  Task<Result<>> judge(Origin& alternate, std::uint64_t size, const std::string& identity,
                       const std::string& found);

 private:
  struct Place {
    Extent extent;
    std::optional<std::uint64_t> hash;
  };
  Task<Result<>> compare_places(Origin& alternate);

  std::uint64_t seed_;
  std::vector<Place> places_;  // Empty: nothing was learned.
};

}  // namespace clonedev
