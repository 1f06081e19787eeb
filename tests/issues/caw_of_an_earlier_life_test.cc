// A COMPARE AND WRITE that was under way at a kill and never came again stayed in the live map for
// good: after another kill, days later, one with the same words succeeded though it had to fail,
// and two had the lock.

#include <gtest/gtest.h>

#include "support/clone_rig.h"

namespace clonedev {
namespace {

using std::chrono::seconds;

constexpr std::uint64_t kLock = 512;
constexpr std::size_t kSector = 512;

class CawOfAnEarlierLife : public testing::Test {
 protected:
  // The lock is taken, which was not answered; then the process is killed.
  void SetUp() override {
    ASSERT_TRUE(rig.compare_and_write(kLock, free, taken));
    second = rig.kill();
    ASSERT_TRUE(second->open());
  }

  CloneRig rig{RigConfig{}};
  const Bytes free = rig.origin_bytes({kLock, kSector});
  const Bytes taken = pattern(4, kSector);
  std::unique_ptr<CloneRig> second;
};

// Its initiator is gone for good.
TEST_F(CawOfAnEarlierLife, is_forgotten_when_its_time_to_come_again_is_over) {
  second->sim.run_for(seconds(60));
  // Others take the lock and give it back; the last one has it.
  ASSERT_TRUE(second->write(kLock, free));
  const int who = 0;
  Bytes both = free;
  both.insert(both.end(), taken.begin(), taken.end());
  const iovec entry{both.data(), both.size()};
  const std::span<const iovec> list(&entry, 1);
  ASSERT_TRUE(
      second->sim.run(second->engine().compare_and_write({kLock, kSector}, list, false, &who)));
  second->engine().answered(&who);
  const auto third = second->kill();
  ASSERT_TRUE(third->open());
  const auto another = third->compare_and_write(kLock, free, taken);
  ASSERT_FALSE(another) << "two have the lock";
  EXPECT_EQ(another.error().code, Errc::miscompare);
}

TEST_F(CawOfAnEarlierLife, is_remembered_over_two_kills_in_a_row) {
  second->sim.run_for(seconds(10));
  const auto third = second->kill();
  ASSERT_TRUE(third->open());
  EXPECT_TRUE(third->compare_and_write(kLock, free, taken));
}

}  // namespace
}  // namespace clonedev
