// I13: who may use the metadata, and which of the durable and the live map counts.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "clone_fixture.h"
#include "support/faulty_device.h"

namespace clonedev {
namespace {

class AttachTest : public CloneTest {
 protected:
  void SetUp() override { format_device(device, kSize); }
  // The daemon dies: nothing of the store remains but the files.
  static void die(Store& store) { store.reset(); }
  std::string live_path() { return LiveMap::path_of(live.path(), id_of(7)); }
  void expect_refused(HostIds ids, const std::string& word) {
    auto store = try_attach(device, ids);
    ASSERT_FALSE(store) << "expected: " << word;
    EXPECT_EQ(store.error().code, make_error_code(Errc::refused)) << store.error().message();
    EXPECT_NE(store.error().message().find(word), std::string::npos) << store.error().message();
  }

  static constexpr std::uint64_t kSize = 4 * kGiB;
  MemoryDevice device{metadata_bytes(kSize)};
};

TEST_F(AttachTest, writes_durably_who_has_it_and_detach_takes_it_back) {
  auto store = attach(device);
  auto superblock = read_one(device);
  EXPECT_FALSE(superblock->clean);
  EXPECT_NE(superblock->attach_id, Id{});
  EXPECT_EQ(superblock->boot_id, kHost.boot);
  EXPECT_EQ(superblock->machine_id, kHost.machine);
  EXPECT_TRUE(std::filesystem::exists(live_path()));
  ASSERT_TRUE(sim.run(store->detach()));
  superblock = read_one(device);
  EXPECT_TRUE(superblock->clean);
  EXPECT_EQ(superblock->attach_id, Id{});
  EXPECT_FALSE(std::filesystem::exists(live_path()));
  for (const std::uint64_t slot : {0u, 1u}) {
    MemoryDevice copy = device;
    std::array<std::byte, 512> junk{};
    copy.poke(slot * kUnitBytes, junk);
    EXPECT_TRUE(read_one(copy)->clean) << "both slots are clean";
  }
  EXPECT_TRUE(attach(device, kOtherMachine)) << "clean metadata may move";
}

TEST_F(AttachTest, death_of_the_daemon_loses_nothing_and_counts_as_user_written) {
  auto store = attach(device);
  ASSERT_TRUE(set(*store, 10, 5, BlockState::destination, Cause::copied));
  ASSERT_TRUE(set(*store, 3 * kPerPage, kPerPage, BlockState::zero, Cause::written));
  const Picture before = picture_of(store->map());
  die(store);
  store = attach(device);
  ASSERT_TRUE(store);
  EXPECT_EQ(picture_of(store->map()), before);
  EXPECT_TRUE(store->must_commit());
  ASSERT_TRUE(sim.run(store->commit(destination)));
  EXPECT_FALSE(store->dirty());
  EXPECT_FALSE(store->must_commit());
  die(store);
  store = attach(device);
  EXPECT_FALSE(store->dirty()) << "live and durable are the same";
  EXPECT_EQ(picture_of(store->map()), before);
  EXPECT_EQ(picture_after_power_cut(device), before);
}

TEST_F(AttachTest, power_loss_falls_back_to_the_durable_map) {
  auto store = attach(device);
  ASSERT_TRUE(set(*store, 10, 5));
  ASSERT_TRUE(sim.run(store->commit(destination)));
  const Picture durable = picture_of(store->map());
  ASSERT_TRUE(set(*store, 20, 5));
  die(store);
  store = attach(device, kNextBoot);  // With the left-over live map in place.
  ASSERT_TRUE(store);
  EXPECT_EQ(picture_of(store->map()), durable);
  EXPECT_FALSE(store->dirty());
}

TEST_F(AttachTest, copied_is_believed_after_a_clean_detach_and_a_kill_and_not_after_a_power_loss) {
  auto store = attach(device);
  ASSERT_TRUE(set(*store, 10, 5, BlockState::copied, Cause::copied));
  ASSERT_TRUE(set(*store, 2 * kPerPage, kPerPage, BlockState::copied, Cause::copied));
  ASSERT_TRUE(set(*store, 4 * kPerPage, kPerPage - 1, BlockState::destination));
  ASSERT_TRUE(set(*store, 5 * kPerPage - 1, 1, BlockState::copied, Cause::copied));
  const Picture marked = picture_of(store->map());
  ASSERT_TRUE(sim.run(store->commit(destination)));
  ASSERT_TRUE(sim.run(store->detach()));
  die(store);
  store = attach(device);
  EXPECT_EQ(picture_of(store->map()), marked) << "after a clean detach";
  // The durable map does not learn of it.
  store->forget_copied({12, 1});
  const Picture less = picture_of(store->map());
  EXPECT_NE(less, marked);
  die(store);
  store = attach(device);
  EXPECT_EQ(picture_of(store->map()), less) << "after a kill the live map counts";
  die(store);
  store = attach(device, kNextBoot);
  EXPECT_EQ(store->map().counts().copied, 0u);
  EXPECT_EQ(store->map().counts().destination, 5 + 2 * kPerPage);
  EXPECT_TRUE(store->map().all({10, 5}, BlockState::destination));
  EXPECT_TRUE(store->dirty()) << "to be made durable some time";
  EXPECT_FALSE(store->must_commit()) << "but not by the next FLUSH";
  ASSERT_TRUE(sim.run(store->commit(destination)));
  EXPECT_EQ(store->used_units(), 3u) << "and the page that became uniform needs no unit";
  ASSERT_TRUE(sim.run(store->detach()));
  die(store);
  store = attach(device);
  EXPECT_EQ(store->map().counts().copied, 0u);
}

TEST_F(AttachTest, missing_live_map_in_the_same_boot_is_refused) {
  auto store = attach(device);
  die(store);
  std::filesystem::remove(live_path());
  expect_refused(kHost, "acknowledged writes may be missing");
  expect_refused(kHost, live_path());
}

TEST_F(AttachTest, live_map_of_another_attachment_is_refused) {
  auto store = attach(device);
  die(store);
  ASSERT_TRUE(LiveMap::create(live.path(), id_of(7), id_of(99), kSize / kBlockSize));
  expect_refused(kHost, "live map is missing or not usable");
}

TEST_F(AttachTest, another_machine_is_refused) {
  auto store = attach(device);
  die(store);
  expect_refused(kOtherMachine, "another machine");
}

TEST_F(AttachTest, the_wrong_metadata_are_told_by_the_live_map) {
  auto store = attach(device);
  MemoryDevice backup = device;
  die(store);
  store = attach(device);
  die(store);
  auto old = try_attach(backup);
  ASSERT_FALSE(old) << "an old copy of the metadata, put back while the daemon was down";
  EXPECT_EQ(old.error().code, make_error_code(Errc::refused));
}

// The daemon dies at any step of an adoption, any number of times.
TEST_F(AttachTest, adoption_may_be_interrupted_at_every_step) {
  auto store = attach(device);
  ASSERT_TRUE(set(*store, 10, 5));
  const Picture before = picture_of(store->map());
  die(store);
  for (int fault = 0; fault < 6; ++fault) {
    FaultyDevice faulty(device);
    const bool done = fault % 2;
    const auto kind = fault < 2 ? FaultyDevice::kWrite : FaultyDevice::kFlush;
    faulty.add({.kinds = kind,
                .skip = fault < 4 ? 0u : 1u,
                .times = 1,
                .effect = done ? FaultyDevice::Effect::done : FaultyDevice::Effect::none});
    EXPECT_FALSE(try_attach(faulty)) << fault;
    store = attach(device);
    ASSERT_TRUE(store) << fault;
    EXPECT_EQ(picture_of(store->map()), before);
    EXPECT_TRUE(store->must_commit());
    die(store);
  }
}

TEST_F(AttachTest, the_first_attach_may_be_interrupted_at_every_step) {
  for (int fault = 0; fault < 6; ++fault) {
    format_device(device, kSize);
    FaultyDevice faulty(device);
    const auto kind = fault < 2 ? FaultyDevice::kWrite : FaultyDevice::kFlush;
    faulty.add({.kinds = kind,
                .skip = fault < 4 ? 0u : 1u,
                .times = 1,
                .effect = fault % 2 ? FaultyDevice::Effect::done : FaultyDevice::Effect::none});
    EXPECT_FALSE(try_attach(faulty)) << fault;
    EXPECT_TRUE(attach(device)) << fault;
  }
}

// The dead daemon had written a superblock and not flushed it. The next process reads it from the
// cache, and goes over the only durable one; the power fails in the middle of that.
TEST_F(AttachTest, flushes_what_it_read_before_it_overwrites_the_slot_before) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    VolatileDevice disk(device);
    FaultyDevice faulty(disk);
    auto store = attach(faulty);
    ASSERT_TRUE(store);
    faulty.add({.kinds = FaultyDevice::kFlush, .skip = 1});  // Pages are flushed, the slot is not.
    ASSERT_TRUE(set(*store, 10, 5));
    ASSERT_FALSE(sim.run(store->commit(destination)));
    die(store);
    OperationLog log;
    RecordingDevice recorded("meta", disk, log);
    std::vector<MemoryDevice> images;
    log.listener = [&](const OperationLog::Entry&) {
      images.push_back(disk.image({.seed = seed * 100 + images.size(), .lose_units = true}));
    };
    store = attach(recorded);
    ASSERT_TRUE(store);
    for (const MemoryDevice& image : images) {
      picture_after_power_cut(image);
      ASSERT_FALSE(HasFailure()) << "seed " << seed;
    }
  }
}

TEST_F(AttachTest, an_image_of_every_instant_of_attach_and_detach_opens) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    VolatileDevice disk(device);
    OperationLog log;
    RecordingDevice recorded("meta", disk, log);
    std::vector<MemoryDevice> images;
    log.listener = [&](const OperationLog::Entry&) {
      images.push_back(disk.image({.seed = seed * 100 + images.size(), .lose_units = true}));
    };
    auto store = attach(recorded);
    ASSERT_TRUE(store);
    ASSERT_TRUE(sim.run(store->detach()));
    for (const MemoryDevice& image : images) picture_after_power_cut(image);
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
  }
}

TEST_F(AttachTest, needs_check_lasts_across_attaches_until_it_is_cleared) {
  auto store = attach(device);
  ASSERT_TRUE(sim.run(store->set_needs_check("the disk fell off")));
  EXPECT_FALSE(sim.run(store->commit(destination)));
  EXPECT_FALSE(sim.run(store->detach()));
  die(store);
  store = attach(device);
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->superblock().needs_check);
  EXPECT_EQ(store->superblock().reason, "the disk fell off");
  const auto refused = sim.run(store->commit(destination));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("the disk fell off"), std::string::npos);
  ASSERT_TRUE(sim.run(store->clear_needs_check()));
  EXPECT_TRUE(sim.run(store->commit(destination)));
  EXPECT_TRUE(sim.run(store->detach()));
}

// A child works on a real clone and kills itself at a random point between set and commit.
TEST_F(AttachTest, a_killed_process_leaves_what_it_had_set) {
  auto store = attach(device);
  const pid_t child = fork();
  if (child == 0) {
    const bool good = store->set({100, 50}, BlockState::destination, Cause::written) &&
                      store->set({kPerPage, 3 * kPerPage}, BlockState::zero, Cause::written);
    store->remember_caw(4096, 11, 22);
    if (good) kill(getpid(), SIGKILL);
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));
  die(store);
  store = attach(device);
  ASSERT_TRUE(store);
  EXPECT_TRUE(store->map().all({100, 50}, BlockState::destination));
  EXPECT_TRUE(store->map().all({kPerPage, 3 * kPerPage}, BlockState::zero));
  EXPECT_TRUE(store->must_commit());
  EXPECT_TRUE(store->caw_done_before(4096, 11, 22));
  EXPECT_FALSE(store->caw_done_before(4096, 11, 22));
}

TEST_F(AttachTest, detach_refuses_while_something_is_not_durable) {
  auto store = attach(device);
  ASSERT_TRUE(set(*store, 0, 1, BlockState::destination, Cause::copied));
  EXPECT_EQ(sim.run(store->detach()).error().code, make_error_code(Errc::refused));
  EXPECT_FALSE(read_one(device)->clean);
  ASSERT_TRUE(sim.run(store->commit(destination)));
  EXPECT_TRUE(sim.run(store->detach()));
}

TEST(HostIds, are_read_from_this_machine) {
  const auto ids = read_host_ids();
  if (!ids) GTEST_SKIP() << ids.error().message();
  EXPECT_NE(ids->boot, Id{});
  EXPECT_NE(ids->machine, Id{});
  EXPECT_EQ(id_text(id_of(0xab)), "abababab-abab-abab-abab-abababababab");
  EXPECT_NE(random_id(), random_id());
}

}  // namespace
}  // namespace clonedev
