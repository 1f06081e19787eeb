// How fast hydration goes, in what order, and what it says of that: on the rig, in virtual time.

#include <gtest/gtest.h>

#include <algorithm>

#include "core/hydration_pace.h"
#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

class HydrationRateTest : public testing::Test {
 protected:
  static RigConfig config() {
    RigConfig config;
    config.size = 64 * kMiB;
    return config;
  }
  HydrationRateTest() { rig_.sim.run_for(milliseconds(1)); }  // Connected.

  void tune(std::uint64_t rate_limit, std::uint64_t min_rate = 0) {
    options_.hydration = true;
    options_.rate_limit = rate_limit;
    options_.min_rate = min_rate;
    rig_.engine().apply_live(options_);
  }
  std::uint64_t copied() { return rig_.engine().status().blocks.copied * k4K; }
  // Bytes a second over that time, while `step` runs again and again.
  template <class Step>
  double rate_while(Scheduler::Duration time, Step&& step) {
    const std::uint64_t before = absent();
    const auto begin = rig_.sim.now();
    while (rig_.sim.now() - begin < time) step();
    const auto took = std::chrono::duration<double>(rig_.sim.now() - begin).count();
    return static_cast<double>(before - absent()) / took;
  }
  std::uint64_t absent() { return rig_.engine().status().blocks.origin * k4K; }
  // Users were there before hydration was.
  template <class Step>
  void begin_beside(Step&& step, std::uint64_t min_rate) {
    rig_.set_hydration(false);
    const auto begin = rig_.sim.now();
    while (rig_.sim.now() - begin < milliseconds(300)) step();
    tune(0, min_rate);
  }
  // A user that writes one block after the other to the end of the disk.
  void write_on() { ASSERT_TRUE(rig_.write(config().size - (++writes_ % 8 + 1) * k4K, data_)); }

  CloneRig rig_{config()};
  Options options_ = config().options;
  Bytes data_ = pattern(1, k4K);
  std::uint64_t writes_ = 0;
};

TEST_F(HydrationRateTest, a_limit_is_kept_and_nearly_reached) {
  rig_.origin->delay = milliseconds(20);
  tune(4 * kMiB);
  rig_.sim.run_for(seconds(1));
  const double rate = rate_while(seconds(10), [this] { rig_.sim.run_for(milliseconds(100)); });
  EXPECT_NEAR(rate, 4.0 * kMiB, 0.4 * kMiB);
  EXPECT_EQ(rig_.engine().status().hydration.rate_limit, 4 * kMiB);
}

TEST_F(HydrationRateTest, a_limit_holds_from_any_moment_of_the_first_second) {
  rig_.origin->delay = milliseconds(20);
  tune(kMiB);
  rig_.sim.run_for(milliseconds(500));
  EXPECT_LE(copied(), kMiB);
}

TEST_F(HydrationRateTest, a_limit_that_is_lifted_holds_nothing_back_any_more) {
  rig_.origin->delay = milliseconds(20);
  tune(k4K);
  rig_.sim.run_for(seconds(5));
  tune(0);
  const auto begin = rig_.sim.now();
  rig_.hydrate_to_the_end();
  EXPECT_LE(rig_.sim.now() - begin, seconds(10));
}

TEST_F(HydrationRateTest, under_load_it_gets_its_minimum_and_no_more) {
  rig_.origin->delay = milliseconds(20);
  rig_.destination_slow->set_delays({.write = {milliseconds(1), milliseconds(2)}});
  begin_beside([this] { write_on(); }, 2 * kMiB);
  const double loaded = rate_while(seconds(10), [this] { write_on(); });
  EXPECT_NEAR(loaded, 2.0 * kMiB, 0.4 * kMiB);
  EXPECT_EQ(rig_.engine().status().hydration.min_rate, 2 * kMiB);
  const double idle = rate_while(milliseconds(500), [this] { rig_.sim.run_for(milliseconds(50)); });
  EXPECT_GE(idle, 20.0 * kMiB) << "the users have gone";
}

// One that is being written when a command comes is what the command waits for.
TEST(HydrationExtents, are_no_larger_than_1_MiB_beside_users) {
  RigConfig config;
  config.size = 256 * kMiB;
  config.memory = 64 * kMiB;
  CloneRig rig(config);
  rig.origin->delay = milliseconds(20);
  const auto extent = [&] { return rig.engine().status().hydration.batch * k4K; };
  rig.set_hydration(true);
  rig.sim.run_until([&] { return extent() == HydrationPace::kLargestExtent; });
  rig.destination_slow->set_delays({.write = {milliseconds(1), milliseconds(1)}});
  const auto use_for = [&](Scheduler::Duration time) {
    const auto until = rig.sim.now() + time;
    while (rig.sim.now() < until) ASSERT_TRUE(rig.write(config.size - k4K, pattern(1, k4K)));
  };
  use_for(milliseconds(300));
  EXPECT_EQ(extent(), kMiB);
  ASSERT_FALSE(rig.engine().complete()) << "it was hydrating";
  rig.sim.run_for(milliseconds(300));
  EXPECT_GT(extent(), kMiB) << "the users have gone";
}

TEST_F(HydrationRateTest, beside_a_command_now_and_then_it_goes_on_as_if_alone) {
  rig_.origin->delay = milliseconds(20);
  rig_.destination_slow->set_delays({.write = {milliseconds(1), milliseconds(1)}});
  const auto now_and_then = [this] {
    write_on();
    rig_.sim.run_for(milliseconds(19));
  };
  begin_beside(now_and_then, kMiB);
  EXPECT_GE(rate_while(milliseconds(400), now_and_then), 50.0 * kMiB);
}

TEST_F(HydrationRateTest, the_minimum_is_a_tenth_of_what_was_measured_unless_it_is_given) {
  rig_.origin->delay = milliseconds(20);
  EXPECT_EQ(rig_.engine().status().hydration.min_rate, 8 * kMiB) << "nothing is measured yet";
  rig_.destination_slow->set_pace([] { return milliseconds(100); });
  tune(0);
  rig_.sim.run_until([this] { return copied() >= 48 * kMiB; });
  const std::uint64_t tenth = rig_.engine().status().hydration.min_rate;
  EXPECT_LT(tenth, 8 * kMiB);
  EXPECT_GT(tenth, kMiB / 4);
  tune(kMiB);
  EXPECT_LE(rig_.engine().status().hydration.min_rate, kMiB) << "a limit bounds it";
}

TEST_F(HydrationRateTest, zeroing_under_load_leaves_the_destination_alone_half_of_the_time) {
  rig_.origin->extents = {{{0, config().size}, true}};
  rig_.destination_slow->set_delays(
      {.write = {milliseconds(1), milliseconds(1)}, .zero = {milliseconds(10), milliseconds(10)}});
  begin_beside([this] { write_on(); }, 0);
  std::size_t most = 0;
  rig_.sim.set_observer([&] { most = std::max(most, rig_.destination_slow->in_flight()); });
  const std::uint64_t before = rig_.destination->count(FaultyDevice::kZero);
  const auto begin = rig_.sim.now();
  while (rig_.sim.now() - begin < seconds(1)) write_on();
  const std::uint64_t zeroings = rig_.destination->count(FaultyDevice::kZero) - before;
  rig_.sim.set_observer({});
  EXPECT_LE(most, 2u) << "one zeroing, and the user's write";
  EXPECT_LE(zeroings, 55u);
  EXPECT_GE(zeroings, 30u) << "it goes on";
}

TEST_F(HydrationRateTest, what_follows_a_miss_comes_before_the_rest) {
  rig_.origin->delay = milliseconds(20);
  tune(kMiB);  // So that there is an order to be seen.
  rig_.sim.run_for(milliseconds(200));
  const std::uint64_t place = 40 * kMiB;
  ASSERT_TRUE(rig_.read({place, k4K}));
  rig_.sim.run_for(seconds(2));
  EXPECT_EQ(rig_.state(place / k4K + 128), BlockState::copied);
  rig_.sim.run_for(seconds(5));
  EXPECT_EQ(rig_.state((place + 5 * kMiB) / k4K), BlockState::origin) << "but no more than that";
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.destination_disk->present().bytes({0, config().size}),
            rig_.origin_bytes({0, config().size}));
}

TEST_F(HydrationRateTest, the_neighbourhood_of_a_miss_is_not_read_where_it_is_a_hole) {
  std::fill(rig_.origin->content.begin(), rig_.origin->content.end(), std::byte{0x55});
  rig_.origin->extents = {{{0, 32 * kMiB}, false}, {{32 * kMiB, 32 * kMiB}, true}};
  ASSERT_TRUE(rig_.read({32 * kMiB - k4K, k4K}));
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.destination_disk->present().bytes({32 * kMiB, 32 * kMiB}), Bytes(32 * kMiB));
}

TEST_F(HydrationRateTest, the_end_is_foretold_from_what_is_left_without_the_holes) {
  rig_.origin->delay = milliseconds(20);
  rig_.origin->extents = {{{0, 32 * kMiB}, false}, {{32 * kMiB, 32 * kMiB}, true}};
  EXPECT_FALSE(rig_.engine().status().hydration.eta_known) << "it is off";
  tune(kMiB);
  EXPECT_FALSE(rig_.engine().status().hydration.eta_known) << "nothing is measured";
  rig_.sim.run_for(seconds(12));
  const Status status = rig_.engine().status();
  ASSERT_TRUE(status.hydration.eta_known);
  EXPECT_NEAR(static_cast<double>(status.hydration.eta_s), 20, 2);
  rig_.set_hydration(false);
  EXPECT_FALSE(rig_.engine().status().hydration.eta_known) << "it is paused";
}

TEST_F(HydrationRateTest, no_end_is_foretold_while_the_origin_is_away) {
  rig_.origin->delay = milliseconds(20);
  tune(kMiB);
  rig_.sim.run_for(seconds(5));
  ASSERT_TRUE(rig_.engine().status().hydration.eta_known);
  rig_.origin->reachable = false;
  rig_.sim.run_for(seconds(20));
  EXPECT_FALSE(rig_.engine().status().hydration.eta_known);
}

TEST_F(HydrationRateTest, reads_beside_a_far_origin_fill_the_memory_there_is) {
  rig_.origin->delay = milliseconds(100);
  tune(0);
  std::uint64_t most = 0;
  rig_.sim.set_observer([&] {
    most = std::max(most, rig_.engine().status().regions.hydrating * config().options.region_size);
  });
  rig_.sim.run_until([this] { return rig_.engine().complete(); });
  rig_.sim.set_observer({});
  EXPECT_GE(most, 8 * kMiB);
  EXPECT_LE(most, 16 * kMiB) << "the pool of the rig";
}

TEST_F(HydrationRateTest, a_destination_that_stalls_is_not_buried) {
  rig_.origin->delay = milliseconds(5);
  tune(0);
  rig_.destination_slow->set_delays({.write = {milliseconds(1), milliseconds(1)}});
  rig_.sim.run_for(milliseconds(40));
  rig_.destination_slow->set_delays({.write = {milliseconds(400), milliseconds(400)}});
  rig_.sim.run_for(seconds(3));
  EXPECT_LE(rig_.destination_slow->in_flight(), 40u);
  rig_.hydrate_to_the_end();
  EXPECT_EQ(rig_.destination_disk->present().bytes({0, config().size}),
            rig_.origin_bytes({0, config().size}));
}

}  // namespace
}  // namespace clonedev
