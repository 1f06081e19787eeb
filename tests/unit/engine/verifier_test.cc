// The comparison of what was copied with the origin: it finds every changed byte and never raises a
// false alarm, whatever users do meanwhile.
#include <gtest/gtest.h>

#include <random>

#include "support/clone_rig.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using State = Verification::State;

constexpr std::uint64_t kVerifiedBlocks = 1024;

class VerifierTest : public testing::Test {
 protected:
  VerifierTest() : rig_(config()) {
    set_log_sink([](int, const char*) {});
  }
  static RigConfig config() {
    RigConfig config;
    config.size = kVerifiedBlocks * k4K;
    return config;
  }
  // Everything is copied but the last block, which the origin cannot read: so it stays incomplete.
  void copy_all_but_the_last() {
    rig_.origin->bad_blocks = {kVerifiedBlocks - 1};
    rig_.set_hydration(true);
    rig_.sim.run_until([this] { return copied() == kVerifiedBlocks - 1; });
    rig_.set_hydration(false);
    rig_.sim.run_for(seconds(1));
  }
  std::uint64_t copied() { return rig_.engine().status().blocks.copied; }
  Verification look() { return *rig_.engine().verify(VerifyAction::look); }
  Verification verify() {
    EXPECT_TRUE(rig_.engine().verify(VerifyAction::start));
    rig_.sim.run_until([this] { return look().state != State::running; });
    return look();
  }
  // What something else than the clone does to the disk.
  void damage(std::uint64_t offset) {
    MemoryDevice image = rig_.destination_disk->present();
    Bytes sector = image.bytes({offset / 512 * 512, 512});
    sector[offset % 512] ^= std::byte{1};
    const iovec bytes{sector.data(), sector.size()};
    const std::span<const iovec> list(&bytes, 1);
    ASSERT_TRUE(rig_.sim.run(rig_.destination_disk->write(offset / 512 * 512, list)));
  }

  CloneRig rig_;
};

TEST_F(VerifierTest, says_what_is_equal_and_what_is_not_to_be_compared) {
  copy_all_but_the_last();
  ASSERT_TRUE(rig_.write(5 * k4K + 512, pattern(3, 512)));
  ASSERT_TRUE(rig_.zero({9 * k4K, 2 * k4K}));
  const Verification found = verify();
  EXPECT_EQ(found.state, State::equal) << found.last_error;
  EXPECT_EQ(found.verified_bytes, (kVerifiedBlocks - 1 - 3) * k4K);
  EXPECT_EQ(found.skipped_bytes(), 4 * k4K);
  EXPECT_EQ(found.done_bytes, kVerifiedBlocks * k4K);
  EXPECT_EQ(found.mismatch_ranges, 0u);
}

TEST_F(VerifierTest, keeps_the_rate_limit) {
  copy_all_but_the_last();
  Options options = config().options;
  options.hydration = false;
  options.rate_limit = kMiB / 4;
  rig_.engine().apply_live(options);
  const auto begin = rig_.sim.now();
  EXPECT_EQ(verify().state, State::equal);
  // The last extent of 1 MiB, of four, is paid for afterwards.
  EXPECT_GE(rig_.sim.now() - begin, seconds(12));
  EXPECT_LE(rig_.sim.now() - begin, seconds(20));
}

TEST_F(VerifierTest, finds_every_changed_byte_with_its_place) {
  copy_all_but_the_last();
  for (const std::uint64_t offset : {0 * k4K, 255 * k4K + 4095, 256 * k4K, 700 * k4K + 77}) {
    damage(offset);
  }
  const Verification found = verify();
  EXPECT_EQ(found.state, State::different);
  EXPECT_EQ(found.mismatches,
            (std::vector<Extent>{{0, k4K}, {255 * k4K, 2 * k4K}, {700 * k4K, k4K}}))
      << "neighbours are one range, also across two reads";
  EXPECT_EQ(found.mismatch_ranges, 3u);
  EXPECT_EQ(found.mismatch_bytes, 4 * k4K);
  EXPECT_GE(rig_.engine().status().errors.mismatch, 3u);
  EXPECT_EQ(verify().state, State::different) << "nothing was changed by looking";
  // Whoever writes there makes it his own.
  ASSERT_TRUE(rig_.write(0, pattern(1, 2 * k4K)));
  EXPECT_EQ(verify().mismatch_ranges, 2u);
}

TEST_F(VerifierTest, sectors_that_the_origin_cannot_read_are_isolated) {
  copy_all_but_the_last();
  rig_.origin->bad_blocks = {100, 101, kVerifiedBlocks - 1};
  damage(99 * k4K);
  const Verification found = verify();
  EXPECT_EQ(found.unreadable_bytes, 2 * k4K);
  EXPECT_EQ(found.verified_bytes, (kVerifiedBlocks - 4) * k4K);
  EXPECT_EQ(found.mismatches, (std::vector<Extent>{{99 * k4K, k4K}}));
  EXPECT_EQ(found.state, State::different);
  ASSERT_TRUE(rig_.write(99 * k4K, pattern(1, k4K)));
  EXPECT_EQ(verify().state, State::failed) << "not all could be compared";
}

TEST_F(VerifierTest, ends_when_the_origin_is_away_and_says_so) {
  copy_all_but_the_last();
  rig_.origin->reachable = false;
  rig_.sim.run_for(seconds(5));
  const auto begun = rig_.sim.now();
  const Verification found = verify();
  EXPECT_EQ(found.state, State::failed);
  EXPECT_FALSE(found.last_error.empty());
  EXPECT_LE(rig_.sim.now() - begun, seconds(40));
}

TEST_F(VerifierTest, can_be_stopped_and_is_not_started_twice) {
  copy_all_but_the_last();
  rig_.origin->delay = milliseconds(200);
  ASSERT_TRUE(rig_.engine().verify(VerifyAction::start));
  EXPECT_EQ(rig_.engine().verify(VerifyAction::start).error().code, Errc::refused);
  ASSERT_TRUE(rig_.engine().verify(VerifyAction::stop));
  rig_.sim.run_until([this] { return look().state != State::running; });
  EXPECT_EQ(look().state, State::stopped);
  rig_.origin->delay = {};
  EXPECT_EQ(verify().state, State::equal);
}

TEST_F(VerifierTest, ends_by_itself_when_nobody_asks_any_more) {
  copy_all_but_the_last();
  for (std::uint64_t block = 0; block < kVerifiedBlocks;
       block += 64) {  // Many reads, four at a time.
    ASSERT_TRUE(rig_.zero({block * k4K, k4K}));
  }
  rig_.origin->delay = seconds(25);
  ASSERT_TRUE(rig_.engine().verify(VerifyAction::start));
  rig_.sim.run_for(std::chrono::minutes(3));
  const Verification found = look();
  EXPECT_EQ(found.state, State::stopped);
  EXPECT_LT(found.done_bytes, found.size_bytes);
}

TEST_F(VerifierTest, close_does_not_wait_for_it_even_if_the_origin_hangs) {
  copy_all_but_the_last();
  rig_.origin->hang = true;
  ASSERT_TRUE(rig_.engine().verify(VerifyAction::start));
  rig_.sim.run_for(milliseconds(100));
  const auto begun = rig_.sim.now();
  EXPECT_TRUE(rig_.close());
  EXPECT_LE(rig_.sim.now() - begun, seconds(2));
}

TEST_F(VerifierTest, a_copy_that_becomes_complete_ends_it) {
  copy_all_but_the_last();
  rig_.origin->bad_blocks.clear();
  rig_.origin->delay = milliseconds(50);
  ASSERT_TRUE(rig_.engine().verify(VerifyAction::start));
  rig_.hydrate_to_the_end();
  const auto refused = rig_.engine().verify(VerifyAction::look);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("is complete"), std::string::npos);
}

// Users write, zero and compare-and-write all the time, on slow devices, with hydration beside it.
TEST_F(VerifierTest, concurrent_writes_cause_no_false_alarm) {
  std::uint64_t verifications = 0, skipped_meanwhile = 0;
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    std::mt19937_64 random(seed);
    RigConfig config = VerifierTest::config();
    config.seed = seed;
    CloneRig rig(config);
    rig.origin->bad_blocks = {kVerifiedBlocks - 1};
    rig.set_hydration(true);
    rig.sim.run_until([&] { return rig.engine().status().blocks.copied > kVerifiedBlocks / 2; });
    const SlowDevice::Delay slow{milliseconds(0), milliseconds(5)};
    rig.destination_slow->set_delays({slow, slow, slow, slow});
    rig.origin->delay = milliseconds(2);
    std::vector<Bytes> data;
    std::vector<Task<Result<>>> requests;
    data.reserve(400);
    for (int round = 0; round < 4; ++round) {
      ASSERT_TRUE(rig.engine().verify(VerifyAction::start));
      const std::uint64_t before = rig.engine().status().blocks.copied;
      while (rig.engine().verify(VerifyAction::look)->state == State::running) {
        rig.sim.run_for(milliseconds(random() % 3));
        if (data.size() >= 400) continue;
        const std::uint64_t offset = random() % (kVerifiedBlocks - 8) * k4K + random() % 8 * 512;
        data.push_back(pattern(random(), (1 + random() % 20) * 512));
        if (random() % 4 == 0) {
          requests.push_back(rig.engine().zero({offset, data.back().size()}, Zeroing::keep, false));
        } else {
          requests.push_back(rig.begin_write(offset, data.back()));
        }
      }
      const Verification found = *rig.engine().verify(VerifyAction::look);
      ++verifications;
      skipped_meanwhile += before * k4K > found.verified_bytes;
      EXPECT_EQ(found.mismatch_ranges, 0u) << "seed " << seed;
      EXPECT_EQ(found.state, State::equal) << "seed " << seed << " " << found.last_error;
    }
    for (auto& request : requests) EXPECT_TRUE(rig.sim.run(std::move(request)));
  }
  std::printf("%llu verifications, in %llu of them blocks were written meanwhile\n",
              static_cast<unsigned long long>(verifications),
              static_cast<unsigned long long>(skipped_meanwhile));
  EXPECT_GT(skipped_meanwhile, 5u);
}

}  // namespace
}  // namespace clonedev
