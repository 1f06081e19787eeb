// What commands get while the origin is known to be away: BUSY within a second, or an error, as
// on_origin_loss says; and everything that does not need the origin does not notice.

#include <gtest/gtest.h>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Extent kAbsent{64 * k4K, k4K};

class OriginLossTest : public testing::Test {
 protected:
  static RigConfig config() {
    RigConfig config;
    config.options.on_origin_loss = OriginLoss::error;
    return config;
  }
  OriginLossTest() {
    EXPECT_TRUE(rig_.write(0, pattern(1, k4K)));
    EXPECT_TRUE(rig_.read({100 * k4K, k4K}));  // Connected; that block is kept.
  }
  void lose_origin() {
    rig_.origin->reachable = false;
    ++rig_.origin->epoch;
    (void)rig_.read(kAbsent);
    ASSERT_FALSE(rig_.link()->believed_alive());
  }
  void find_origin() {
    rig_.origin->reachable = true;
    rig_.sim.run_until([this] { return rig_.link()->believed_alive(); });
  }
  void say(OriginLoss loss) {
    Options options = config().options;
    options.on_origin_loss = loss;
    rig_.engine().apply_live(options);
  }
  // The code, and that it came within about a second.
  std::error_code outcome_of(const std::function<Result<>()>& command) {
    const auto began = rig_.sim.now();
    const auto outcome = command();
    EXPECT_LE(rig_.sim.now() - began, milliseconds(1100));
    return outcome ? std::error_code() : outcome.error().code;
  }
  Result<> read_absent() {
    auto bytes = rig_.read(kAbsent);
    return bytes ? Result<>() : fail(bytes.error());
  }

  CloneRig rig_{config()};
};

TEST_F(OriginLossTest, what_needs_the_origin_fails_within_a_second_and_had_no_effect) {
  lose_origin();
  EXPECT_EQ(outcome_of([&] { return read_absent(); }), Errc::origin_lost);
  EXPECT_EQ(outcome_of([&] { return rig_.write(65 * k4K + 512, pattern(2, 512)); }),
            Errc::origin_lost);
  EXPECT_EQ(outcome_of([&] { return rig_.zero({66 * k4K + 512, 512}); }), Errc::origin_lost);
  EXPECT_EQ(outcome_of([&] {
              return rig_.compare_and_write(67 * k4K, rig_.origin_bytes({67 * k4K, 512}),
                                            pattern(3, 512));
            }),
            Errc::origin_lost);
  EXPECT_EQ(rig_.engine().status().errors.busy, 0U);
  EXPECT_EQ(rig_.engine().status().errors.origin_lost, 5U) << "with the one that lost it";
  find_origin();
  const Extent all{64 * k4K, 4 * k4K};
  EXPECT_EQ(*rig_.read(all), rig_.origin_bytes(all));
}

TEST_F(OriginLossTest, the_word_is_live) {
  say(OriginLoss::busy);
  lose_origin();
  EXPECT_EQ(outcome_of([&] { return read_absent(); }), Errc::busy);
  say(OriginLoss::error);
  EXPECT_EQ(outcome_of([&] { return read_absent(); }), Errc::origin_lost);
  say(OriginLoss::busy);
  EXPECT_EQ(outcome_of([&] { return read_absent(); }), Errc::busy);
}

TEST_F(OriginLossTest, an_origin_that_is_merely_slow_is_not_lost) {
  rig_.origin->hang = true;
  const auto outcome = rig_.read(kAbsent);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Errc::busy);
  rig_.origin->hang = false;
  rig_.origin->released.wake_all();
}

TEST_F(OriginLossTest, what_does_not_need_the_origin_takes_no_time) {
  lose_origin();
  const auto began = rig_.sim.now();
  const Bytes data = pattern(4, 2 * k4K);
  EXPECT_TRUE(rig_.write(80 * k4K, data));
  EXPECT_EQ(*rig_.read({80 * k4K, 2 * k4K}), data);
  EXPECT_TRUE(rig_.write(81 * k4K + 512, pattern(5, 512))) << "a smaller one, to what is there";
  EXPECT_EQ(*rig_.read({0, k4K}), pattern(1, k4K));
  EXPECT_TRUE(rig_.zero({90 * k4K, 4 * k4K}));
  EXPECT_TRUE(rig_.flush());
  EXPECT_TRUE(rig_.write(82 * k4K, pattern(6, k4K), true)) << "FUA";
  EXPECT_EQ(rig_.sim.now(), began);
}

// To the copying a lost origin is no bad sector.
TEST_F(OriginLossTest, hydration_waits_and_then_completes_without_an_error) {
  rig_.set_hydration(true);
  say(OriginLoss::error);
  lose_origin();
  rig_.sim.run_for(seconds(60));
  EXPECT_EQ(rig_.engine().status().errors.origin_read, 0U);
  find_origin();
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.engine().status().errors.origin_read, 0U);
}

// One that can not come back does not hold a close up either.
TEST_F(OriginLossTest, a_close_waits_for_no_origin) {
  lose_origin();
  Bytes into;
  auto reading = rig_.begin_read(kAbsent, into);
  rig_.sim.settle();
  const auto began = rig_.sim.now();
  EXPECT_TRUE(rig_.close());
  EXPECT_EQ(rig_.sim.now(), began);
  ASSERT_TRUE(reading.done());
  EXPECT_EQ(reading.take().error().code, Errc::closed);
}

}  // namespace
}  // namespace clonedev
