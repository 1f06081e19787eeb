// Growing a disk that is in use: what it shows afterwards, whatever the end of the old one was;
// what is left when something fails; and every moment at which the machine or the daemon may die.

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "support/clone_rig.h"
#include "support/sizes.h"
#include "support/small_tmpfs.h"

namespace clonedev {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// How long is the last block, and who has it, when the disk grows.
enum class End { origin, copied, written, written_in_part, zero, complete };
constexpr End kEnds[] = {End::origin,          End::copied, End::written,
                         End::written_in_part, End::zero,   End::complete};

struct Shape {
  const char* name;
  std::uint64_t size;
  std::uint64_t larger;
  std::uint64_t origin_size = 0;  // 0: longer than the larger disk.
};
constexpr Shape kShapes[] = {
    {"whole blocks", kMiB, 2 * kMiB},
    {"a short block", kMiB - 1536, 2 * kMiB + 512},
    {"within the last block", kMiB - 3584, kMiB - 1024},
    {"the origin ends in the short block", kMiB - 1536, 2 * kMiB, kMiB - 2048},
    {"to more pages", 40 * kMiB + 512, 200 * kMiB, 3 * k4K},
    {"at the end of a page", kPageCoversBytes, 3 * kPageCoversBytes, 3 * k4K},
    {"to a deeper tree", 8 * kGiB - 512, 40 * kGiB, 3 * k4K},
    {"from nodes to more nodes", 40 * kGiB, 70 * kGiB + 512, 3 * k4K},
    {"by two levels at once", kGiB - 512, 3 * 1024 * kGiB, 3 * k4K},
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name; }

class GrowthTest : public testing::TestWithParam<Shape> {
 protected:
  GrowthTest() : shape_(GetParam()) {
    set_log_sink([](int, const char*) {});
  }

  // A disk whose old end is in that condition, over a destination full of something else.
  void make(End end) {
    RigConfig config;
    config.size = shape_.size;
    config.room = shape_.larger;
    config.origin_size = shape_.origin_size ? shape_.origin_size : shape_.larger + k4K;
    rig_.reset();  // Its scheduler goes before another one comes.
    rig_ = std::make_unique<CloneRig>(config);
    const std::uint64_t around = shape_.size / k4K * k4K;
    const std::uint64_t junk = std::min(shape_.larger - around, 64 * k4K) / 512 * 512;
    const Bytes garbage = pattern(99, junk);
    const iovec list{const_cast<std::byte*>(garbage.data()), garbage.size()};
    ASSERT_TRUE(rig_->sim.run(rig_->destination_disk->write(around, {&list, 1})));
    ASSERT_TRUE(rig_->sim.run(rig_->destination_disk->flush()));
    window_ = {around - 2 * k4K, 64 * k4K};
    model_ = rig_->origin_bytes({window_.offset, shape_.size - window_.offset});
    condition(end);
  }
  void condition(End end) {
    const std::uint64_t last = (shape_.size - 1) / k4K * k4K;
    switch (end) {
      case End::origin:
        return;
      case End::copied:
        rig_->origin->bad_blocks.insert(0);  // Or it would be complete.
        rig_->set_hydration(true);
        rig_->sim.run_until([&] { return rig_->state(last / k4K) != BlockState::origin; });
        rig_->set_hydration(false);
        rig_->sim.run_for(milliseconds(1));
        return;
      case End::written:
        return write(last, pattern(1, shape_.size - last));
      case End::written_in_part:
        return write(shape_.size - 512, pattern(2, 512));
      case End::zero:
        ASSERT_TRUE(rig_->zero({last, shape_.size - last}));
        ASSERT_TRUE(rig_->flush());
        std::fill(model_.begin() + static_cast<std::ptrdiff_t>(last - window_.offset), model_.end(),
                  std::byte{0});
        return;
      case End::complete:
        rig_->hydrate_to_the_end();
        rig_->sim.run_for(seconds(1));
    }
  }
  void write(std::uint64_t offset, const Bytes& data) {
    ASSERT_TRUE(rig_->write(offset, data));
    ASSERT_TRUE(rig_->flush());
    std::copy(data.begin(), data.end(),
              model_.begin() + static_cast<std::ptrdiff_t>(offset - window_.offset));
  }
  // What the window shows on a disk of that size.
  Bytes expected(std::uint64_t size) const {
    Bytes bytes = model_;
    bytes.resize(std::min(window_.end(), size) - window_.offset);
    return bytes;
  }
  static std::uint64_t size_of(CloneRig& rig) {
    return rig.metadata().map().geometry().size_bytes();
  }
  // What is wrong with what `rig` shows; empty: nothing.
  std::string fault_of(CloneRig& rig, bool only_new) {
    const std::uint64_t size = size_of(rig);
    if (size != shape_.larger && (only_new || size != shape_.size)) {
      return "a size of " + std::to_string(size);
    }
    const auto shown = rig.read({window_.offset, std::min(window_.end(), size) - window_.offset});
    if (!shown) return shown.error().message();
    if (*shown != expected(size)) return "wrong data around the old end";
    const auto end = rig.read({size - 512, 512});
    if (size > window_.end() && (!end || *end != Bytes(512))) return "the new end is not zero";
    return {};
  }

  const Shape shape_;
  std::unique_ptr<CloneRig> rig_;
  Extent window_;
  Bytes model_;
};

INSTANTIATE_TEST_SUITE_P(Shapes, GrowthTest, testing::ValuesIn(kShapes));

bool too_long_to_copy(const Shape& shape) { return shape.larger > kGiB; }

TEST_P(GrowthTest, keeps_what_was_there_and_reads_zeroes_behind_it) {
  for (const End end : kEnds) {
    if (too_long_to_copy(shape_) && (end == End::copied || end == End::complete)) continue;
    SCOPED_TRACE(static_cast<int>(end));
    make(end);
    ASSERT_FALSE(HasFailure());
    const auto grown = rig_->sim.run(rig_->engine().grow(shape_.larger));
    ASSERT_TRUE(grown) << grown.error().message();
    ASSERT_EQ(fault_of(*rig_, true), "");
    EXPECT_EQ(rig_->engine().status().size_bytes, shape_.larger);
    EXPECT_EQ(rig_->engine().complete(), end == End::complete);
    // The new part is a disk like the old one, its first bytes and its last ones.
    const Bytes data = pattern(5, 512);
    ASSERT_TRUE(rig_->write(shape_.size, data));
    ASSERT_TRUE(rig_->write(shape_.larger - 512, data));
    EXPECT_EQ(*rig_->read({shape_.size, 512}), data);
    ASSERT_TRUE(rig_->close());
    ASSERT_TRUE(rig_->open());
    EXPECT_EQ(size_of(*rig_), shape_.larger);
    EXPECT_EQ(*rig_->read({shape_.size, 512}), data);
    EXPECT_EQ(*rig_->read({shape_.larger - 512, 512}), data);
    EXPECT_EQ(*rig_->read({window_.offset, shape_.size - window_.offset}), expected(shape_.size));
    if (shape_.larger > 4 * kMiB) continue;
    rig_->origin->bad_blocks.clear();
    rig_->hydrate_to_the_end();
    const Extent shown = intersect(window_, {0, shape_.larger});
    EXPECT_EQ(rig_->destination_disk->present().bytes(shown), *rig_->read(shown));
  }
}

TEST_P(GrowthTest, a_death_at_any_moment_leaves_the_old_or_the_new_size_and_all_data) {
  int cuts = 0, kills = 0, old_seen = 0, new_seen = 0;
  const auto judge = [&](std::unique_ptr<CloneRig> heir, bool only_new, const char* how) {
    const auto opened = heir->open();
    ASSERT_TRUE(opened) << how << ": " << opened.error().message();
    ASSERT_EQ(fault_of(*heir, only_new), "") << how;
    (size_of(*heir) == shape_.larger ? new_seen : old_seen) += 1;
  };
  for (const End end : {End::origin, End::copied, End::zero, End::complete}) {
    if (too_long_to_copy(shape_) && (end == End::copied || end == End::complete)) continue;
    SCOPED_TRACE(static_cast<int>(end));
    make(end);
    ASSERT_FALSE(HasFailure());
    const SlowDevice::Delay some{microseconds(1), microseconds(20)};
    rig_->destination_slow->set_delays({some, some, some, some});
    rig_->metadata_slow->set_delays({some, some, some, some});
    rig_->metadata_disk->set_flush_time(rig_->sim, microseconds(5));
    rig_->destination_disk->set_flush_time(rig_->sim, microseconds(5));
    auto grown = rig_->engine().grow(shape_.larger);
    std::uint64_t seen = 0;
    // Each kill copies the live map, whose holes come to life.
    const int stride = shape_.larger > 1024 * kGiB ? 50 : 1;
    for (int step = 0;; ++step) {
      const bool done = grown.done();
      const std::uint64_t now =
          rig_->destination_disk->changes() + rig_->metadata_disk->changes() + done;
      if (now != seen) {
        seen = now;
        for (std::uint64_t seed = 0; seed < 4; ++seed, ++cuts) {
          judge(rig_->power_cut(seen * 16 + seed, seed % 2 == 1), done, "power cut");
        }
      }
      if (step % stride == 0 || done) {
        judge(rig_->kill(), done, "kill");
        ++kills;
      }
      if (done || HasFailure()) break;
      ASSERT_TRUE(rig_->sim.step());
    }
    ASSERT_TRUE(grown.take());
  }
  std::printf("%s: %d power cuts, %d kills; the old size %d times, the new one %d times\n",
              shape_.name, cuts, kills, old_seen, new_seen);
  EXPECT_GT(old_seen, 0);
  EXPECT_GT(new_seen, 0);
}

TEST_P(GrowthTest, any_failure_of_a_device_leaves_one_of_the_two_sizes_and_is_told) {
  for (const unsigned kind :
       {FaultyDevice::kWrite, FaultyDevice::kFlush, FaultyDevice::kZero, FaultyDevice::kRead}) {
    for (const bool of_metadata : {false, true}) {
      for (std::uint64_t skip = 0;; ++skip) {
        make(End::origin);
        FaultyDevice& device = of_metadata ? *rig_->metadata_device : *rig_->destination;
        device.add({.kinds = kind, .skip = skip, .times = 1});
        const auto grown = rig_->sim.run(rig_->engine().grow(shape_.larger));
        if (device.failed() == 0) {
          ASSERT_TRUE(grown) << grown.error().message();
          break;
        }
        ASSERT_FALSE(grown);
        EXPECT_EQ(size_of(*rig_), shape_.size);
        ASSERT_EQ(fault_of(*rig_, false), "");
        ASSERT_LT(skip, 20u);
        const auto heir = rig_->kill();
        const auto opened = heir->open();
        ASSERT_TRUE(opened) << opened.error().message();
        ASSERT_EQ(fault_of(*heir, false), "");
      }
    }
  }
}

class GrowingTest : public testing::Test {
 protected:
  static RigConfig short_disk() {
    RigConfig config;
    config.size = kMiB - 1536;
    config.room = 4 * kMiB;
    config.origin_size = 4 * kMiB;
    return config;
  }
  static Result<> grow(CloneRig& rig, std::uint64_t size) {
    return rig.sim.run(rig.engine().grow(size));
  }
  static void refused(CloneRig& rig, std::uint64_t size, Errc code, const char* words) {
    const std::uint64_t before = rig.engine().status().size_bytes;
    const auto grown = grow(rig, size);
    ASSERT_FALSE(grown);
    EXPECT_EQ(grown.error().code, make_error_code(code)) << grown.error().message();
    EXPECT_NE(grown.error().message().find(words), std::string::npos) << grown.error().message();
    EXPECT_EQ(rig.engine().status().size_bytes, before);
    EXPECT_EQ(rig.engine().status().mode, CloneMode::rw);
    EXPECT_TRUE(rig.write(before - 512, pattern(3, 512)));
    EXPECT_TRUE(rig.flush());
  }
};

TEST_F(GrowingTest, a_disk_does_not_shrink_and_its_own_size_is_fine) {
  CloneRig rig(short_disk());
  refused(rig, kMiB / 2, Errc::refused, "cannot shrink");
  refused(rig, kMaxDiskBytes + 512, Errc::refused, "not possible");
  EXPECT_TRUE(grow(rig, kMiB - 1536));
}

TEST_F(GrowingTest, sizes_fit_the_sectors_of_the_destination) {
  RigConfig config;
  config.sector_size = 4096;
  config.room = 4 * kMiB;
  CloneRig rig(config);
  const auto grown = grow(rig, 2 * kMiB + 512);
  ASSERT_FALSE(grown);
  EXPECT_NE(grown.error().message().find("multiple of 4096"), std::string::npos);
  EXPECT_TRUE(grow(rig, 2 * kMiB + 4096));
}

TEST_F(GrowingTest, metadata_without_room_leave_the_old_size) {
  RigConfig config = short_disk();
  CloneRig rig(config);
  refused(rig, 100 * kGiB, Errc::no_space, "the metadata need");
  EXPECT_TRUE(grow(rig, 4 * kMiB));
}

TEST_F(GrowingTest, a_full_destination_leaves_the_old_size) {
  CloneRig rig(short_disk());
  const Error full{make_error_code(Errc::no_space), "no space left"};
  rig.destination->add({.kinds = FaultyDevice::kZero, .times = 1, .error = full});
  refused(rig, 2 * kMiB, Errc::no_space, "no space");
  ASSERT_TRUE(rig.zero({(kMiB - 1536) / k4K * k4K, k4K - 1536}));
  EXPECT_TRUE(grow(rig, 2 * kMiB));
}

TEST_F(GrowingTest, a_full_live_map_leaves_the_old_size) {
  const auto folder = SmallTmpfs::mount("size=128k");
  if (!folder) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  RigConfig config = short_disk();
  config.room = 600 * kGiB;
  config.live_dir = folder->path();
  CloneRig rig(config);
  ASSERT_TRUE(rig.write(0, pattern(1, 512)));  // The first page has its words.
  folder->fill(true);
  refused(rig, 600 * kGiB, Errc::live_map_full, "live map");
  folder->fill(false);
  EXPECT_TRUE(grow(rig, 600 * kGiB));
}

TEST_F(GrowingTest, a_short_block_at_an_origin_that_is_away_leaves_the_old_size) {
  CloneRig rig(short_disk());
  rig.origin->hang = true;
  const auto grown = grow(rig, 2 * kMiB);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code, make_error_code(Errc::busy));
  EXPECT_NE(grown.error().message().find("needs the origin"), std::string::npos);
  rig.origin->hang = false;
  rig.origin->released.wake_all();
  EXPECT_TRUE(grow(rig, 2 * kMiB));
}

TEST_F(GrowingTest, nothing_grows_after_a_failed_flush_until_the_admin_acts) {
  CloneRig rig(short_disk());
  rig.destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
  EXPECT_FALSE(rig.flush());
  const auto grown = grow(rig, 2 * kMiB);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code, make_error_code(Errc::needs_check));
  ASSERT_TRUE(rig.sim.run(rig.engine().clear_needs_check()));
  EXPECT_TRUE(grow(rig, 2 * kMiB));
}

// It was planned when the short block was the end of the disk: then it is whole for it.
TEST_F(GrowingTest, an_unmap_that_began_before_never_takes_what_is_written_behind_the_old_end) {
  CloneRig rig(short_disk());
  const std::uint64_t old_end = kMiB - 1536;
  ASSERT_TRUE(rig.write(old_end / k4K * k4K, pattern(1, k4K - 1536)));
  rig.origin->hang = true;
  // Its first half block is at the origin, which does not answer.
  Task<Result<>> unmap = rig.engine().zero({512, old_end - 512}, Zeroing::deallocate, false);
  Task<Result<>> grown = rig.engine().grow(2 * kMiB);
  rig.sim.run_for(seconds(2));
  EXPECT_FALSE(unmap.done());
  EXPECT_FALSE(grown.done()) << "commands may come to the new bytes while an old one is under way";
  EXPECT_EQ(rig.engine().status().size_bytes, 2 * kMiB);
  const Bytes data = pattern(6, 512);
  EXPECT_TRUE(rig.write(4 * k4K, pattern(7, k4K))) << "commands that come meanwhile are served";
  rig.origin->hang = false;
  rig.origin->released.wake_all();
  ASSERT_TRUE(rig.sim.run(std::move(grown)));
  ASSERT_TRUE(unmap.done());
  ASSERT_TRUE(rig.write(old_end, data));
  EXPECT_EQ(*rig.read({old_end, 512}), data);
  EXPECT_EQ(*rig.read({old_end - 512, 512}), Bytes(512));
  EXPECT_EQ(*rig.read({old_end + 512, 512}), Bytes(512));
}

// What it has read ends where the disk ended, in the middle of a block that is longer now.
TEST_F(GrowingTest, a_copy_that_was_read_before_keeps_to_the_old_end) {
  RigConfig config = short_disk();
  config.options.hydration_threshold = 256;
  config.options.hydration_batch_size = 256;
  CloneRig rig(config);
  const std::uint64_t old_end = kMiB - 1536;
  const Extent last{old_end / k4K * k4K, old_end % k4K};
  rig.origin->hang = true;
  rig.set_hydration(true);
  rig.sim.run_until([&] { return rig.origin->reads_under_way == 1; });
  const Bytes data = pattern(1, last.length);
  ASSERT_TRUE(rig.write(last.offset, data)) << "so that growing does not need the origin";
  ASSERT_TRUE(grow(rig, 2 * kMiB));
  rig.origin->hang = false;
  rig.origin->released.wake_all();
  rig.hydrate_to_the_end();
  EXPECT_EQ(*rig.read({0, last.offset}), rig.origin_bytes({0, last.offset}));
  EXPECT_EQ(*rig.read(last), data);
  EXPECT_EQ(*rig.read({old_end, k4K}), Bytes(k4K));
}

TEST_F(GrowingTest, a_verification_that_runs_meanwhile_finds_nothing_wrong) {
  CloneRig rig(short_disk());
  rig.origin->bad_blocks.insert(0);  // Or it would be complete.
  rig.set_hydration(true);
  rig.sim.run_until([&] { return rig.metadata().map().counts().origin == 1; });
  ASSERT_GT(rig.metadata().map().counts().copied, 0u);
  ASSERT_TRUE(rig.engine().verify(VerifyAction::start));
  ASSERT_TRUE(grow(rig, 2 * kMiB));
  rig.sim.run_for(seconds(2));
  EXPECT_EQ(rig.engine().verify(VerifyAction::look)->state, Verification::State::equal);
  ASSERT_TRUE(rig.engine().verify(VerifyAction::start));
  rig.sim.run_for(seconds(2));
  EXPECT_EQ(rig.engine().verify(VerifyAction::look)->state, Verification::State::equal);
}

// One writer a column of blocks, so that each knows what it has to find.
struct Writer {
  CloneRig& rig;
  std::uint64_t column;
  std::mt19937_64 random;
  std::uint64_t& size;
  std::map<std::uint64_t, Bytes> wrote;
  bool done = false;

  Task<> run(int acts) {
    for (int act = 0; act < acts; ++act) {
      const std::uint64_t blocks = Geometry::divide_up(size, k4K);
      const std::uint64_t block = random() % (blocks / 8) * 8 + column;
      const std::uint64_t end = std::min((block + 1) * k4K, size);
      if (block * k4K >= end) continue;
      const std::uint64_t sectors = (end - block * k4K) / 512;
      const std::uint64_t first = random() % 3 ? 0 : random() % sectors;
      const Extent extent{block * k4K + first * 512, (sectors - first) * 512};
      if (random() % 4 == 0) {
        const auto zeroed = co_await rig.engine().zero(extent, Zeroing::deallocate, false);
        EXPECT_TRUE(zeroed);
        note(extent, Bytes(extent.length));
      } else {
        const Bytes data = pattern(random(), extent.length);
        const auto written = co_await rig.begin_write(extent.offset, data);
        EXPECT_TRUE(written);
        note(extent, data);
      }
    }
    done = true;
  }
  void note(Extent extent, const Bytes& data) {
    for (std::uint64_t at = 0; at < extent.length; at += 512) {
      const auto from = data.begin() + static_cast<std::ptrdiff_t>(at);
      wrote[extent.offset + at] = Bytes(from, from + 512);
    }
  }
};

TEST_F(GrowingTest, goes_on_under_load_and_hydration) {
  const char* const text = std::getenv("CLONE_TEST_SEED");
  const std::uint64_t first = text ? std::strtoull(text, nullptr, 0) : 1;
  std::printf("CLONE_TEST_SEED=%llu\n", static_cast<unsigned long long>(first));
  for (std::uint64_t seed = first; seed < first + 20; ++seed) {
    SCOPED_TRACE(seed);
    RigConfig config = short_disk();
    config.seed = seed;
    config.size = 64 * k4K - 1536;
    config.origin_size = kMiB;
    CloneRig rig(config);
    const SlowDevice::Delay some{microseconds(10), milliseconds(2)};
    rig.destination_slow->set_delays({some, some, some, some});
    rig.metadata_slow->set_delays({some, some, some, some});
    rig.origin->delay = milliseconds(5);
    rig.set_hydration(seed % 2 == 0);
    std::uint64_t size = config.size;
    std::vector<std::unique_ptr<Writer>> writers;
    for (std::uint64_t column = 0; column < 8; ++column) {
      writers.push_back(std::unique_ptr<Writer>(
          new Writer{rig, column, std::mt19937_64(seed * 100 + column), size, {}}));
      spawn(writers.back()->run(60));
    }
    std::mt19937_64 random(seed);
    for (int step = 0; step < 5; ++step) {
      rig.sim.run_for(milliseconds(random() % 20));
      const std::uint64_t larger = size + (1 + random() % 200) * 512;
      const auto grown = grow(rig, larger);
      ASSERT_TRUE(grown) << grown.error().message();
      size = larger;
    }
    rig.sim.run_until([&] {
      return std::ranges::all_of(writers, [](const auto& writer) { return writer->done; });
    });
    Bytes model = rig.origin_bytes({0, config.size});
    model.resize(size);
    for (const auto& writer : writers) {
      for (const auto& [at, data] : writer->wrote) {
        std::copy(data.begin(), data.end(), model.begin() + static_cast<std::ptrdiff_t>(at));
      }
    }
    ASSERT_EQ(*rig.read({0, size}), model);
    ASSERT_TRUE(rig.flush());
    {
      const auto heir = rig.power_cut(seed);
      ASSERT_TRUE(heir->open());
      ASSERT_EQ(*heir->read({0, size}), model) << "after a power cut";
    }
    rig.hydrate_to_the_end();
    rig.sim.run_for(seconds(1));
    ASSERT_EQ(rig.destination_disk->present().bytes({0, size}), model);
  }
}

}  // namespace
}  // namespace clonedev
