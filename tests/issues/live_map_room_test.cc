// A write took memory for the state of its blocks only after its data had been written: when the
// tmpfs was full by then, data lay on the destination without a state.

#include <gtest/gtest.h>

#include "support/clone_rig.h"
#include "support/sizes.h"
#include "support/small_tmpfs.h"

namespace clonedev {
namespace {

using std::chrono::seconds;

class LiveMapRoom : public testing::Test {
 protected:
  LiveMapRoom() : live_dir_(SmallTmpfs::mount("size=128k")) {
    if (!live_dir_) return;
    RigConfig config;
    config.live_dir = live_dir_->path();
    rig_.emplace(config);
  }
  void SetUp() override {
    if (!live_dir_) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  }
  std::uint64_t writes() const { return rig_->destination->count(FaultyDevice::kWrite); }

  std::unique_ptr<SmallTmpfs> live_dir_;
  std::optional<CloneRig> rig_;
};

TEST_F(LiveMapRoom, a_full_live_map_is_noticed_before_data_are_written) {
  live_dir_->fill(true);
  const Bytes data = pattern(1, k4K);
  const auto aligned = rig_->write(0, data);
  const auto partial = rig_->write(3 * k4K + 512, pattern(2, 512));
  const auto compared =
      rig_->compare_and_write(5 * k4K, rig_->origin_bytes({5 * k4K, 512}), pattern(3, 512));
  for (const auto& outcome : {aligned, partial, compared}) {
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, make_error_code(Errc::live_map_full));
  }
  rig_->set_hydration(true);
  rig_->sim.run_for(seconds(10));
  EXPECT_EQ(writes(), 0u) << "data went to the destination without room for their states";
  live_dir_->fill(false);
  EXPECT_TRUE(rig_->write(0, data));
  rig_->hydrate_to_the_end();
  EXPECT_EQ(*rig_->read({0, k4K}), data);
}

// A commit gives idle memory of the live map back; what a write under way counts on is not idle.
TEST_F(LiveMapRoom, a_commit_does_not_take_the_room_of_a_write_under_way) {
  rig_->destination_slow->hold(SlowDevice::kWrite);
  const Bytes data = pattern(1, k4K);
  Task<Result<>> write = rig_->begin_write(0, data);
  rig_->sim.settle();
  ASSERT_TRUE(rig_->sim.run(rig_->metadata().commit(*rig_->destination)));
  live_dir_->fill(true);
  rig_->destination_slow->release();
  EXPECT_TRUE(rig_->sim.run(std::move(write)));
  EXPECT_EQ(rig_->state(0), BlockState::destination);
  EXPECT_EQ(*rig_->read({0, k4K}), data);
}

// A page copied as a whole has no memory of its own to say that one of its blocks is not a copy any
// more: it then gives up the marks of all of them, and the write needs no room.
TEST_F(LiveMapRoom, a_write_to_what_was_copied_is_done_without_memory_for_the_mark) {
  constexpr std::uint64_t kPage = StatePages::kBlocksPerPage;
  RigConfig config;
  config.size = 2 * kPage * k4K;
  config.live_dir = live_dir_->path() + "/large";
  ASSERT_TRUE(std::filesystem::create_directory(config.live_dir));
  CloneRig rig(config);
  MetadataStore& metadata = rig.metadata();
  ASSERT_TRUE(metadata.set({0, 2 * kPage}, BlockState::copied, Cause::copied));
  ASSERT_TRUE(rig.flush());
  live_dir_->fill(true);
  const Bytes data = pattern(1, k4K);
  EXPECT_TRUE(rig.write(kPage * k4K, data));
  EXPECT_EQ(*rig.read({kPage * k4K, k4K}), data);
  EXPECT_TRUE(metadata.map().all({0, kPage}, BlockState::copied));
  EXPECT_TRUE(metadata.map().all({kPage, kPage}, BlockState::destination));
  live_dir_->fill(false);
}

// The first part of a zeroing had been done when there was no memory for the states of the rest.
TEST_F(LiveMapRoom, a_zeroing_without_room_for_all_of_it_does_nothing) {
  constexpr std::uint64_t kPage = std::uint64_t{64} << 20;  // What one page of states describes.
  RigConfig config;
  config.size = 2 * kPage;
  config.live_dir = live_dir_->path();
  CloneRig rig(config);
  ASSERT_TRUE(rig.write(0, pattern(1, k4K)));  // The first page has its memory.
  live_dir_->fill(true);
  const Extent head{kPage - 2 * k4K + 512, k4K - 512};
  const auto zeroed = rig.zero({head.offset, kPage + k4K - head.offset});
  ASSERT_FALSE(zeroed);
  EXPECT_EQ(zeroed.error().code, make_error_code(Errc::live_map_full));
  EXPECT_EQ(*rig.read(head), rig.origin_bytes(head)) << "TASK SET FULL means that nothing happened";
  live_dir_->fill(false);
  ASSERT_TRUE(rig.zero({head.offset, kPage + k4K - head.offset}));
  EXPECT_EQ(*rig.read(head), Bytes(head.length));
}

}  // namespace
}  // namespace clonedev
