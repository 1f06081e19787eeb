// I1, I2, I3, I10: order of a commit, what it covers, lazy copy bits, and failures.
#include <gtest/gtest.h>

#include <algorithm>

#include "clone_fixture.h"
#include "support/faulty_device.h"
#include "support/slow_device.h"

namespace clonedev {
namespace {

using What = OperationLog::What;
using std::chrono::milliseconds;

class CommitTest : public CloneTest {
 protected:
  void SetUp() override {
    format_device(device, kSize);
    store = attach(meta);
    ASSERT_TRUE(store);
    log.entries.clear();
  }
  std::size_t index_of(const std::string& name, What what, bool end, std::size_t from = 0) {
    for (std::size_t i = from; i < log.entries.size(); ++i) {
      if (log.entries[i].is(name, what, end)) return i;
    }
    return log.entries.size();
  }
  // The last write to a superblock slot begins here.
  std::size_t superblock_write() {
    for (std::size_t i = log.entries.size(); i-- > 0;) {
      const auto& entry = log.entries[i];
      if (entry.is("meta", What::write, false) && entry.extent.offset < 2 * kUnitBytes) return i;
    }
    return 0;
  }
  bool commit() { return sim.run(store->commit(dest)).has_value(); }

  static constexpr std::uint64_t kSize = 4 * kGiB;
  OperationLog log;
  MemoryDevice device{metadata_bytes(kSize)};
  SlowDevice slow_meta{device, sim, {}};
  FaultyDevice faulty_meta{slow_meta};
  RecordingDevice meta{"meta", faulty_meta, log};
  SlowDevice slow_dest{destination, sim, {}};
  FaultyDevice faulty_dest{slow_dest};
  RecordingDevice dest{"dest", faulty_dest, log};
  Store store;
};

// I1 and I2: freeze, then the destination's flush, beside it the pages; the superblock when both
// are durable; then its flush.
TEST_F(CommitTest, destination_flush_begins_after_the_freeze_and_ends_before_the_superblock) {
  for (const bool slow : {true, false}) {
    slow_dest.set_delays({.flush = {milliseconds(slow ? 50 : 1), milliseconds(slow ? 50 : 1)}});
    slow_meta.set_delays(
        {.write = {milliseconds(5), milliseconds(9)}, .flush = {milliseconds(5), milliseconds(9)}});
    ASSERT_TRUE(set(*store, slow ? 10 : 500, 5));
    log.entries.clear();
    ASSERT_TRUE(commit());
    const std::size_t superblock = superblock_write();
    EXPECT_EQ(index_of("dest", What::flush, false), 0u) << "it starts at once";
    EXPECT_LT(index_of("dest", What::flush, true), superblock);
    const std::size_t pages_flushed = index_of("meta", What::flush, true);
    EXPECT_LT(index_of("meta", What::write, true), index_of("meta", What::flush, false));
    EXPECT_LT(pages_flushed, superblock);
    EXPECT_LT(superblock, index_of("meta", What::flush, true, superblock));
    EXPECT_EQ(log.entries.size(), 10u) << "one page, one slot, three flushes";
    if (slow) {
      EXPECT_LT(pages_flushed, index_of("dest", What::flush, true)) << "meanwhile";
    }
  }
}

TEST_F(CommitTest, what_is_set_during_a_commit_waits_for_the_next) {
  slow_dest.set_delays({.flush = {milliseconds(50), milliseconds(50)}});
  ASSERT_TRUE(set(*store, 10, 5));
  const Picture frozen = picture_of(store->map());
  auto running = store->commit(dest);
  sim.run_for(milliseconds(10));
  ASSERT_TRUE(set(*store, 20, 5));            // The same page.
  ASSERT_TRUE(set(*store, 9 * kPerPage, 5));  // Another page.
  EXPECT_TRUE(store->must_commit());
  ASSERT_TRUE(sim.run(std::move(running)));
  EXPECT_EQ(picture_after_power_cut(device), frozen);
  EXPECT_TRUE(store->dirty());
  EXPECT_TRUE(store->must_commit());
  ASSERT_TRUE(commit());
  EXPECT_EQ(picture_after_power_cut(device), picture_of(store->map()));
  EXPECT_FALSE(store->dirty());
  EXPECT_FALSE(store->must_commit());
}

TEST_F(CommitTest, must_commit_holds_until_the_superblock_is_durable) {
  slow_meta.set_delays({.flush = {milliseconds(50), milliseconds(50)}});
  ASSERT_TRUE(set(*store, 10, 5));
  auto running = store->commit(dest);
  sim.run_for(milliseconds(60));  // In the second flush, the superblock's.
  EXPECT_TRUE(store->must_commit());
  ASSERT_TRUE(sim.run(std::move(running)));
  EXPECT_FALSE(store->must_commit());
}

TEST_F(CommitTest, with_nothing_dirty_it_is_just_the_flush_of_the_destination) {
  ASSERT_TRUE(commit());
  EXPECT_EQ(log.entries.size(), 2u);
  EXPECT_TRUE(log.entries[0].is("dest", What::flush, false));
  ASSERT_TRUE(set(*store, 10, 5));
  ASSERT_TRUE(set(*store, 10, 5, BlockState::origin));
  log.entries.clear();
  ASSERT_TRUE(commit());
  EXPECT_EQ(log.entries.size(), 2u) << "set and set back";
  EXPECT_FALSE(store->dirty());
  EXPECT_FALSE(store->must_commit());
}

// I3, lazy copy bits.
TEST_F(CommitTest, copied_states_are_dirty_and_not_urgent_until_a_user_writes_there) {
  ASSERT_TRUE(set(*store, 10, 5, BlockState::destination, Cause::copied));
  EXPECT_TRUE(store->dirty());
  EXPECT_FALSE(store->must_commit());
  store->note_written({200, 5});  // Not `destination` at all: nothing to do with that copy.
  store->note_written({12, 1});
  EXPECT_TRUE(store->must_commit());
  ASSERT_TRUE(commit());
  EXPECT_FALSE(store->must_commit());
  store->note_written({12, 1});
  EXPECT_FALSE(store->must_commit()) << "its state is durable now";
}

TEST_F(CommitTest, a_write_beside_a_copied_block_on_the_same_page_is_not_urgent) {
  ASSERT_TRUE(set(*store, 10, 5));
  ASSERT_TRUE(commit());
  ASSERT_TRUE(set(*store, 100, 5, BlockState::destination, Cause::copied));
  store->note_written({10, 5});
  EXPECT_FALSE(store->must_commit()) << "asked block by block";
  store->note_written({10, 91});
  EXPECT_TRUE(store->must_commit());
}

TEST_F(CommitTest, a_write_on_a_copied_block_during_its_commit_is_covered) {
  ASSERT_TRUE(set(*store, 10, 5, BlockState::destination, Cause::copied));
  slow_dest.set_delays({.flush = {milliseconds(50), milliseconds(50)}});
  auto running = store->commit(dest);
  sim.run_for(milliseconds(10));
  store->note_written({12, 1});
  EXPECT_TRUE(store->must_commit());
  ASSERT_TRUE(sim.run(std::move(running)));
  EXPECT_FALSE(store->must_commit()) << "the page is clean, whatever was marked";
}

// A write into a block whose copy is durable has to make nothing durable but its data.
TEST_F(CommitTest, forgetting_that_a_block_was_copied_is_not_urgent) {
  ASSERT_TRUE(set(*store, 10, 5, BlockState::copied, Cause::copied));
  ASSERT_TRUE(set(*store, 3 * kPerPage, kPerPage, BlockState::copied, Cause::copied));
  ASSERT_TRUE(commit());
  for (const BlockRange blocks : {BlockRange{12, 1}, BlockRange{3 * kPerPage + 7, 2}}) {
    store->forget_copied(blocks);
    EXPECT_TRUE(store->map().all(blocks, BlockState::destination));
    store->note_written(blocks);
    EXPECT_TRUE(store->dirty());
    EXPECT_FALSE(store->must_commit());
  }
  EXPECT_EQ(store->map().counts().copied, 4u + kPerPage - 2);
  // And where the copy is not durable, it is urgent as ever.
  ASSERT_TRUE(set(*store, 6 * kPerPage, 5, BlockState::copied, Cause::copied));
  store->forget_copied({6 * kPerPage, 1});
  EXPECT_FALSE(store->must_commit());
  store->note_written({6 * kPerPage, 1});
  EXPECT_TRUE(store->must_commit());
  ASSERT_TRUE(commit());
  EXPECT_FALSE(store->must_commit());
}

TEST_F(CommitTest, a_failure_anywhere_is_final_and_changes_no_visible_state) {
  struct Fault {
    FaultyDevice* device;
    FaultyDevice::Kind kind;
    std::uint64_t skip;
  };
  const Fault faults[] = {{&faulty_dest, FaultyDevice::kFlush, 0},
                          {&faulty_meta, FaultyDevice::kWrite, 0},
                          {&faulty_meta, FaultyDevice::kFlush, 0},
                          {&faulty_meta, FaultyDevice::kWrite, 1},
                          {&faulty_meta, FaultyDevice::kFlush, 1}};
  for (const Fault& fault : faults) {
    for (const auto effect : {FaultyDevice::Effect::none, FaultyDevice::Effect::done}) {
      const Picture old = picture_of(store->map());
      const std::uint64_t block = store->map().counts().destination;
      ASSERT_TRUE(set(*store, block, 1));
      const Picture wanted = picture_of(store->map());
      fault.device->add({.kinds = fault.kind, .skip = fault.skip, .times = 1, .effect = effect});
      EXPECT_FALSE(commit());
      fault.device->clear();
      EXPECT_TRUE(store->failed());
      EXPECT_TRUE(store->must_commit());
      const auto refused = sim.run(store->commit(dest));
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code, make_error_code(Errc::needs_check));
      EXPECT_EQ(picture_of(store->map()), wanted);
      const Picture durable = picture_after_power_cut(device);
      EXPECT_TRUE(durable == old || durable == wanted);
      ASSERT_TRUE(sim.run(store->set_needs_check("failed on purpose")));
      EXPECT_EQ(picture_after_power_cut(device), old);
      ASSERT_TRUE(sim.run(store->clear_needs_check()));
      ASSERT_TRUE(commit());
      EXPECT_EQ(picture_after_power_cut(device), wanted);
      EXPECT_EQ(store->used_units(), 3u);
    }
  }
}

TEST_F(CommitTest, set_complete_wants_everything_on_the_destination_and_durable) {
  EXPECT_FALSE(sim.run(store->set_complete()));
  ASSERT_TRUE(set(*store, 0, kSize / kBlockSize, BlockState::destination, Cause::copied));
  EXPECT_FALSE(sim.run(store->set_complete()));
  ASSERT_TRUE(commit());
  ASSERT_TRUE(set(*store, 7, 1, BlockState::copied, Cause::copied));
  ASSERT_TRUE(commit());
  EXPECT_FALSE(sim.run(store->set_complete())) << "complete metadata are uniform";
  store->forget_copied({0, kSize / kBlockSize});
  ASSERT_TRUE(commit());
  ASSERT_TRUE(sim.run(store->set_complete()));
  EXPECT_TRUE(read_one(device)->complete);
}

}  // namespace
}  // namespace clonedev
