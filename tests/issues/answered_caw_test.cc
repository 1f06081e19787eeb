// For 30 s after a kill every COMPARE AND WRITE that had succeeded in the life before succeeded
// once more, whoever sent it: of two initiators that take the same lock with the same words, both
// had it. Only those may that nobody has been told of; their initiators send them again.

#include <gtest/gtest.h>

#include "support/clone_rig.h"

namespace clonedev {
namespace {

class AnsweredCaw : public testing::Test {
 protected:
  AnsweredCaw() : rig_(RigConfig{}) {
    both_ = rig_.origin_bytes({512, 512});
    const Bytes data = pattern(4, 512);
    both_.insert(both_.end(), data.begin(), data.end());
  }
  Result<> lock(CloneRig& rig, const void* who) {
    const iovec entry{both_.data(), both_.size()};
    const std::span<const iovec> list(&entry, 1);
    return rig.sim.run(rig.engine().compare_and_write({512, 512}, list, false, who));
  }

  CloneRig rig_;
  Bytes both_;
  const int first_ = 0;
  const int second_ = 0;
};

TEST_F(AnsweredCaw, of_which_the_initiator_knows_does_not_succeed_again_after_a_kill) {
  ASSERT_TRUE(lock(rig_, &first_));
  rig_.engine().answered(&first_);
  const auto after = rig_.kill();
  ASSERT_TRUE(after->open());
  const auto another = lock(*after, &second_);
  ASSERT_FALSE(another) << "two have the lock";
  EXPECT_EQ(another.error().code, Errc::miscompare);
}

TEST_F(AnsweredCaw, of_which_nobody_knows_succeeds_again_until_its_initiator_knows) {
  ASSERT_TRUE(lock(rig_, &first_));
  const auto after = rig_.kill();
  ASSERT_TRUE(after->open());
  ASSERT_TRUE(lock(*after, &first_));
  const auto later = after->kill();
  ASSERT_TRUE(later->open());
  ASSERT_TRUE(lock(*later, &first_)) << "killed before it was answered";
  later->engine().answered(&first_);
  const auto last = later->kill();
  ASSERT_TRUE(last->open());
  EXPECT_FALSE(lock(*last, &second_));
}

}  // namespace
}  // namespace clonedev
