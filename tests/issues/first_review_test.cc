// What the first hostile review of the data paths found, before anything was released.

#include <gtest/gtest.h>

#include "engine/known_clones.h"
#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// A block durably on the destination is discarded; a commit freezes `zero`; a write comes while the
// commit's I/O runs. The durable copy of before still says `destination`, yet the commit is about
// to make it `zero`: the write's FLUSH must commit again.
TEST(FirstReview, a_write_that_undoes_what_a_running_commit_makes_durable_is_urgent) {
  CloneRig rig(RigConfig{});
  ASSERT_TRUE(rig.write(0, pattern(1, k4K)));
  ASSERT_TRUE(rig.flush());
  ASSERT_TRUE(rig.zero({0, k4K}));
  rig.destination_slow->hold(SlowDevice::kFlush);
  Task<Result<>> running = rig.engine().flush();
  rig.sim.run_for(milliseconds(1));
  const Bytes data = pattern(2, k4K);
  ASSERT_TRUE(rig.write(0, data));
  rig.destination_slow->release();
  ASSERT_TRUE(rig.sim.run(std::move(running)));
  ASSERT_TRUE(rig.flush());
  const auto after = rig.power_cut(1);
  ASSERT_TRUE(after->open());
  EXPECT_EQ(*after->read({0, k4K}), data);
}

// The mirror image: durably zero, written, and zeroed again while the commit of the write runs.
TEST(FirstReview, a_zeroing_that_undoes_what_a_running_commit_makes_durable_is_urgent) {
  CloneRig rig(RigConfig{});
  ASSERT_TRUE(rig.zero({0, k4K}));
  ASSERT_TRUE(rig.flush());
  ASSERT_TRUE(rig.write(0, pattern(1, k4K)));
  rig.destination_slow->hold(SlowDevice::kFlush);
  Task<Result<>> running = rig.engine().flush();
  rig.sim.run_for(milliseconds(1));
  ASSERT_TRUE(rig.zero({0, k4K}, Zeroing::keep));
  rig.destination_slow->release();
  ASSERT_TRUE(rig.sim.run(std::move(running)));
  ASSERT_TRUE(rig.flush());
  const auto after = rig.power_cut(1);
  ASSERT_TRUE(after->open());
  EXPECT_EQ(*after->read({0, k4K}), Bytes(k4K));
}

TEST(FirstReview, stop_ends_while_the_origin_is_away) {
  CloneRig rig(RigConfig{});
  rig.origin->reachable = false;
  EXPECT_FALSE(rig.read({0, k4K}));
  rig.set_hydration(true);
  rig.sim.run_for(seconds(10));
  const auto before = rig.sim.now();
  EXPECT_TRUE(rig.close());
  EXPECT_LE(rig.sim.now() - before, seconds(3));
}

TEST(FirstReview, stop_ends_while_the_origin_does_not_answer) {
  CloneRig rig(RigConfig{});
  rig.origin->hang = true;
  rig.set_hydration(true);
  rig.sim.run_for(seconds(1));
  ASSERT_GT(rig.origin->reads_under_way, 0u);
  const auto before = rig.sim.now();
  EXPECT_TRUE(rig.close());
  EXPECT_LE(rig.sim.now() - before, seconds(3));
}

TEST(FirstReview, a_completion_that_failed_is_tried_again_once_the_admin_has_acted) {
  CloneRig rig(RigConfig{});
  rig.metadata_slow->hold(SlowDevice::kWrite);
  rig.set_hydration(true);
  rig.sim.run_until([&] {
    return rig.metadata().map().counts().destination == rig.metadata().map().counts().total();
  });
  rig.metadata_device->add({.kinds = FaultyDevice::kWrite, .times = 1});
  rig.metadata_slow->release();
  rig.sim.run_for(seconds(3));
  if (!rig.engine().complete()) {
    ASSERT_TRUE(rig.sim.run(rig.engine().clear_needs_check()));
    rig.sim.run_for(seconds(3));
  }
  EXPECT_TRUE(rig.engine().complete());
  EXPECT_EQ(rig.link()->state(), Origin::State::closed);
}

// Commands that were answered BUSY long ago must not keep the origin from those that wait now.
TEST(FirstReview, reads_that_nobody_waits_for_any_more_are_not_made) {
  RigConfig config;
  config.size = 64 << 20;
  config.options.origin_timeout_ms = 2000;
  CloneRig rig(config);
  ASSERT_TRUE(rig.read({0, k4K}));
  rig.origin->delay = milliseconds(1900);
  std::vector<Bytes> targets(40);
  std::vector<Task<Result<>>> reads;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    reads.push_back(rig.begin_read({i << 20, 1 << 20}, targets[i]));
  }
  const auto before = rig.origin->reads;
  for (auto& read : reads) (void)rig.sim.run(std::move(read));
  rig.sim.run_for(seconds(20));
  EXPECT_LE(rig.origin->reads - before, 33u) << "reads for commands that had been answered";
}

TEST(FirstReview, a_record_that_is_not_whole_is_said_to_be_so) {
  const std::filesystem::path dir = "/dev/shm/clone-known-test";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir / "known");
  {
    std::FILE* file = std::fopen((dir / "known" / "vm1").c_str(), "w");
    ASSERT_TRUE(file);
    std::fclose(file);
  }
  const auto found = KnownClones(dir.string()).find("vm1");
  ASSERT_FALSE(found);
  EXPECT_NE(found.error().message().find("not whole"), std::string::npos);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace clonedev
