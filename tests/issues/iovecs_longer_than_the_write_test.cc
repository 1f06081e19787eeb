// The iovecs of a write hold at least its bytes, and may hold more: WRITE SAME of anything but
// zeroes repeats one buffer, so its last step has more than it needs. All of it was written to the
// destination, over the blocks behind.
#include <gtest/gtest.h>

#include "io/iovecs.h"
#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

TEST(IovecsLongerThanTheWrite, write_nothing_behind_it) {
  CloneRig rig(RigConfig{});
  const Bytes kept = pattern(1, 8 * k4K);
  ASSERT_TRUE(rig.write(0, kept));
  Bytes more = pattern(2, 4 * k4K);
  const iovec whole = to_iovec(more);
  const std::span<const iovec> data(&whole, 1);
  ASSERT_TRUE(rig.sim.run(rig.engine().write({k4K, k4K}, data, false)));
  Bytes wanted = kept;
  std::copy_n(more.begin(), k4K, wanted.begin() + k4K);
  const auto found = rig.read({0, 8 * k4K});
  ASSERT_TRUE(found);
  EXPECT_TRUE(*found == wanted);
}

TEST(IovecsLongerThanTheWrite, write_nothing_behind_the_end_of_the_disk) {
  CloneRig rig(RigConfig{});
  Bytes more = pattern(2, 4 * k4K);
  const iovec whole = to_iovec(more);
  const std::span<const iovec> data(&whole, 1);
  const std::uint64_t last = (1 << 20) - k4K;
  EXPECT_TRUE(rig.sim.run(rig.engine().write({last, k4K}, data, false)));
}

}  // namespace
}  // namespace clonedev
