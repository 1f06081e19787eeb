// I4: power cuts at every step, with any subset of what was not flushed, and a long random run
// of sets, commits, kills and power cuts against a model.
#include <gtest/gtest.h>

#include <cstdlib>

#include "clone_fixture.h"
#include "core/state_map.h"
#include "support/slow_device.h"

namespace clonedev {
namespace {

std::uint64_t seed_from_environment() {
  const char* text = std::getenv("CLONE_TEST_SEED");
  return text ? std::strtoull(text, nullptr, 0) : 20261122;
}

class CrashTest : public CloneTest {};

// Every image of a commit shows the old or the new map; after its end only the new one.
TEST_F(CrashTest, a_power_cut_at_any_step_of_a_commit_leaves_the_old_or_the_new_map) {
  int old_seen = 0, new_seen = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    ScratchDir dir;
    const std::uint64_t size = seed % 3 ? 4 * kGiB : 20 * kGiB;
    VolatileDevice disk(metadata_bytes(size));
    format_device(disk, size);
    OperationLog log;
    RecordingDevice recorded("meta", disk, log);
    auto superblock = read_one(disk);
    std::string path = dir.path();
    auto store =
        sim.run(MetadataStore::attach(recorded, std::move(*superblock), std::move(path), kHost));
    ASSERT_TRUE(store);
    std::mt19937_64 random(seed);
    const std::uint64_t pages = pages_for(size);
    for (int round = 0; round < 4; ++round) {
      const Picture before = picture_of((*store)->map());
      for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(set(**store, random() % (pages * kPerPage - 9), 1 + random() % 9,
                        static_cast<BlockState>(random() % 3)));
      }
      const Picture after = picture_of((*store)->map());
      std::vector<MemoryDevice> images;
      log.listener = [&](const OperationLog::Entry&) {
        images.push_back(disk.image({.seed = random(), .lose_units = seed % 2 == 0}));
      };
      ASSERT_TRUE(sim.run((*store)->commit(destination)));
      log.listener = nullptr;
      for (const MemoryDevice& image : images) {
        const Picture found = picture_after_power_cut(image);
        ASSERT_TRUE(found == before || found == after) << "seed " << seed << " round " << round;
        (found == after ? new_seen : old_seen) += 1;
      }
      ASSERT_EQ(picture_after_power_cut(disk.image({.seed = seed, .lose_units = true})), after);
    }
  }
  EXPECT_GT(old_seen, 100);
  EXPECT_GT(new_seen, 100);
}

// Of a commit in several steps each image is a prefix, page by page old or new.
TEST_F(CrashTest, a_power_cut_in_a_commit_of_several_steps_leaves_whole_pages) {
  const std::uint64_t size = 16 * kGiB;
  VolatileDevice disk(metadata_bytes(size));
  format_device(disk, size);
  OperationLog log;
  RecordingDevice recorded("meta", disk, log);
  auto store = attach(recorded);
  const std::uint64_t pages = pages_for(size);
  for (std::uint64_t round = 0; round < 3; ++round) {
    for (std::uint64_t page = 0; page < pages; ++page) {
      ASSERT_TRUE(set(*store, page * kPerPage + 3 * round, 2));
    }
    std::vector<MemoryDevice> images;
    log.listener = [&](const OperationLog::Entry& entry) {
      const bool slot = entry.extent.offset < 2 * kUnitBytes;
      if (slot || images.size() < 40) {
        images.push_back(disk.image({.seed = images.size() + round * 1000, .lose_units = true}));
      }
    };
    const std::uint64_t before = store->commits();
    ASSERT_TRUE(sim.run(store->commit(destination)));
    log.listener = nullptr;
    EXPECT_EQ(store->commits() - before > 1, round > 0);
    for (MemoryDevice& image : images) {
      ScratchDir dir;
      auto superblock = read_one(image);
      ASSERT_TRUE(superblock) << superblock.error().message();
      std::string path = dir.path();
      auto found =
          sim.run(MetadataStore::attach(image, std::move(*superblock), std::move(path), kNextBoot));
      ASSERT_TRUE(found) << found.error().message();
      bool new_before = true;
      for (std::uint64_t page = 0; page < pages; ++page) {
        const std::uint64_t base = page * kPerPage + 3 * round;
        const BlockState first = (*found)->map().at(base);
        ASSERT_EQ((*found)->map().at(base + 1), first);
        ASSERT_TRUE(round == 0 || (*found)->map().all({base - 3, 2}, BlockState::destination));
        const bool is_new = first == BlockState::destination;
        ASSERT_TRUE(new_before || !is_new) << "steps go up";
        new_before = is_new;
      }
    }
  }
}

// One clone lives through sets, commits, kills and power cuts in random order. The model knows the
// live map and the map at each commit; commits run slowly, with sets in between.
class RandomRun {
 public:
  RandomRun(SimScheduler& sim, std::uint64_t seed)
      : sim_(sim), random_(seed), disk_(metadata_bytes(kSize)), meta_(disk_, sim, kSlow, seed) {
    Superblock superblock = new_superblock(kSize);
    EXPECT_TRUE(sim_.run(format(disk_, std::move(superblock))));
    ++boot_;
    open();
  }

  void step() {
    const std::uint64_t dice = random_() % 1000;
    if (dice < 10) {
      commit();
    } else if (dice < 12) {
      kill();
    } else if (dice < 13) {
      power_cut();
    } else if (dice < 14) {
      orderly();
    } else {
      change();
    }
  }
  int power_cuts() const { return power_cuts_; }
  int commits() const { return commits_; }

 private:
  using Model = std::vector<BlockState>;
  static constexpr std::uint64_t kSize = 6 * kPageCoversBytes - 3 * kBlockSize;
  static constexpr std::uint64_t kBlocks = kSize / kBlockSize;
  static constexpr SlowDevice::Delays kSlow{
      .read = {},
      .write = {std::chrono::microseconds(1), std::chrono::microseconds(50)},
      .flush = {std::chrono::microseconds(1), std::chrono::microseconds(50)},
      .zero = {}};

  void open() {
    auto superblock = sim_.run(read_superblock(meta_));
    ASSERT_TRUE(superblock && *superblock);
    Superblock one = std::move(**superblock);
    std::string dir = dir_.path();
    const HostIds ids{id_of(boot_), kHost.machine};
    auto store = sim_.run(MetadataStore::attach(meta_, std::move(one), std::move(dir), ids));
    ASSERT_TRUE(store) << store.error().message();
    store_ = std::move(*store);
  }
  void change() {
    const std::uint64_t at = random_() % kBlocks;
    const std::uint64_t length =
        random_() % 50 ? 1 + random_() % 40 : kPerPage + random_() % kPerPage;
    const BlockRange range{at, std::min(length, kBlocks - at)};
    const auto state = static_cast<BlockState>(random_() % kBlockStates);
    const auto cause = random_() % 2 ? Cause::copied : Cause::written;
    ASSERT_TRUE(store_->set(range, state, cause));
    for (std::uint64_t i = range.first; i < range.end(); ++i) model_[i] = state;
    ASSERT_EQ(store_->map().at(range.first), state);
  }
  // What is believed after a power cut.
  static Model without_marks(Model model) {
    std::ranges::transform(model, model.begin(), authority_of);
    return model;
  }
  void expect(const Model& wanted, const char* when) {
    const StateMap& map = store_->map();
    for (std::uint64_t at = 0; at < kBlocks;) {
      const StateRun run = map.run({at, kBlocks - at});
      for (; at < run.blocks.end(); ++at) ASSERT_EQ(run.state, wanted[at]) << when << " " << at;
    }
  }
  bool is(const MetadataStore& store, const Model& wanted) {
    for (std::uint64_t at = 0; at < kBlocks;) {
      const StateRun run = store.map().run({at, kBlocks - at});
      for (; at < run.blocks.end(); ++at) {
        if (run.state != wanted[at]) return false;
      }
    }
    return true;
  }
  void check_image(const Model& after) {
    MemoryDevice image = disk_.image({.seed = random_(), .lose_units = true});
    ScratchDir dir;
    auto superblock = sim_.run(read_superblock(image));
    ASSERT_TRUE(superblock && *superblock) << "image during a commit";
    Superblock one = std::move(**superblock);
    std::string path = dir.path();
    auto store = sim_.run(MetadataStore::attach(image, std::move(one), std::move(path), kNextBoot));
    ASSERT_TRUE(store) << store.error().message();
    ASSERT_TRUE(is(**store, without_marks(durable_)) || is(**store, without_marks(after)));
  }
  void commit() {
    const Model frozen = model_;
    auto running = store_->commit(destination_);
    while (!running.done()) {
      if (!sim_.step()) break;
      if (random_() % 4 == 0) change();
      if (random_() % 16 == 0) check_image(frozen);
    }
    ASSERT_TRUE(running.take());
    durable_ = frozen;
    ++commits_;
    if (model_ == durable_) {
      // Nothing was set meanwhile; were it dirty, equal pages would not have been forgotten.
      ASSERT_FALSE(store_->dirty());
    }
  }
  void kill() {
    store_.reset();
    open();
    expect(model_, "after a kill");
  }
  void power_cut() {
    store_.reset();
    disk_.crash({.seed = random_(), .lose_units = true});
    ++boot_;
    ++power_cuts_;
    open();
    model_ = without_marks(durable_);
    expect(model_, "after a power cut");
    ASSERT_EQ(store_->dirty(), model_ != durable_);
    ASSERT_FALSE(store_->must_commit()) << "marks are not urgent";
  }
  void orderly() {
    commit();
    ASSERT_TRUE(sim_.run(store_->commit(destination_)));
    durable_ = model_;
    ASSERT_TRUE(sim_.run(store_->detach()));
    store_.reset();
    open();
    expect(model_, "after an orderly close");
  }

  SimScheduler& sim_;
  std::mt19937_64 random_;
  VolatileDevice disk_;
  SlowDevice meta_;
  MemoryDevice destination_{kMiB};
  ScratchDir dir_;
  std::uint8_t boot_ = 0;
  Model model_ = Model(kBlocks, BlockState::origin);
  Model durable_ = Model(kBlocks, BlockState::origin);
  std::unique_ptr<MetadataStore> store_;
  int power_cuts_ = 0;
  int commits_ = 0;
};

TEST_F(CrashTest, random_life_of_a_clone_agrees_with_a_model) {
  const std::uint64_t seed = seed_from_environment();
  std::printf("CLONE_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  int power_cuts = 0, commits = 0;
  for (std::uint64_t i = 0; i < 4; ++i) {
    SimScheduler mixed(seed + i);
    RandomRun run(mixed, seed + i);
    for (int step = 0; step < 5000; ++step) {
      run.step();
      ASSERT_FALSE(HasFailure()) << "CLONE_TEST_SEED=" << seed << " run " << i << " step " << step;
    }
    power_cuts += run.power_cuts();
    commits += run.commits();
  }
  EXPECT_GT(power_cuts, 5);
  EXPECT_GT(commits, 100);
}

}  // namespace
}  // namespace clonedev
