// The link with alternates, over origins in memory, in virtual time.

#include <gtest/gtest.h>

#include "origin/origin_link.h"
#include "origin/origin_samples.h"
#include "support/memory_origin.h"
#include "support/sim_scheduler.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kDisk = 1 << 20;  // 256 blocks, so every one is compared.

std::vector<std::byte> disk_of(unsigned number, std::uint64_t size = kDisk) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + i / 4096 + number);
  }
  return bytes;
}

class AlternatesTest : public testing::Test {
 protected:
  static constexpr int kPlaces = 3;

  AlternatesTest() {
    for (int i = 0; i < kPlaces; ++i) {
      auto world = std::make_shared<MemoryOrigin::World>(sim_);
      world->content = disk_of(1);
      world->identity = "place:" + std::to_string(i);  // Every server calls it something else.
      world->delay = 1ms;
      places_.push_back(world);
    }
  }
  ~AlternatesTest() override { close(); }

  // `count` of the places, the first of them the origin.
  void make(int count, std::optional<OriginLink::Binding> expected) {
    std::vector<OriginCandidate> candidates;
    for (int i = 0; i < count; ++i) {
      candidates.push_back({"place" + std::to_string(i),
                            MemoryOrigin::factory(places_[static_cast<std::size_t>(i)])});
    }
    link_ = std::make_unique<OriginLink>(std::move(candidates), std::move(expected));
  }
  void make_known(int count) { make(count, OriginLink::Binding{kDisk, "place:0"}); }
  void start_and_settle() {
    link_->start();
    sim_.run_for(30s);
  }
  void close() {
    if (link_) sim_.run(link_->close());
    link_.reset();
  }
  void lose(int place) {
    at(place).reachable = false;
    ++at(place).epoch;
  }
  void find(int place) { at(place).reachable = true; }
  MemoryOrigin::World& at(int place) { return *places_[static_cast<std::size_t>(place)]; }
  Result<OriginBytes> read(Scheduler::Duration limit = 20s) {
    return sim_.run(link_->read(8192, buffer_, sim_.now() + limit));
  }
  std::error_code code_of(const Result<OriginBytes>& outcome) {
    return outcome ? std::error_code() : outcome.error().code;
  }

  SimScheduler sim_;
  std::vector<std::shared_ptr<MemoryOrigin::World>> places_;
  std::unique_ptr<OriginLink> link_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(4096);
};

TEST_F(AlternatesTest, one_takes_over_within_the_same_read_and_the_origin_when_that_is_lost) {
  make_known(2);
  start_and_settle();
  ASSERT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place0");
  EXPECT_EQ(at(1).opens, 0U) << "nobody asks an alternate without need";

  lose(0);
  EXPECT_TRUE(read());
  EXPECT_EQ(buffer_[5], disk_of(1)[8192 + 5]);
  EXPECT_EQ(link_->in_use(), "place1");

  find(0);
  const auto opens = at(0).opens;
  sim_.run_for(10min);
  ASSERT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place1");
  EXPECT_EQ(at(0).opens, opens) << "what works is stayed with";

  lose(1);
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place0");
}

TEST_F(AlternatesTest, no_read_waits_for_what_is_kept_for_comparing) {
  at(0).pace = [samples = 256]() mutable -> Scheduler::Duration {
    return samples-- > 0 ? Scheduler::Duration(1h) : Scheduler::Duration(1ms);
  };
  make_known(2);
  link_->start();
  sim_.run_for(1s);
  ASSERT_EQ(at(0).reads, 256U);
  EXPECT_TRUE(read(1s));
  sim_.run_for(2h);  // MemoryOrigin ends no read before its time.
}

TEST_F(AlternatesTest, all_of_them_are_tried_before_the_origin_is_down) {
  make_known(3);
  start_and_settle();
  lose(0);
  lose(1);
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place2");
}

TEST_F(AlternatesTest, with_all_of_them_gone_reads_are_busy_and_nobody_spins) {
  make_known(3);
  start_and_settle();
  for (const int place : {0, 1, 2}) lose(place);
  EXPECT_EQ(code_of(read()), Errc::busy);
  EXPECT_FALSE(link_->believed_alive());
  EXPECT_EQ(link_->in_use(), "");
  const auto before = at(0).opens;
  sim_.run_for(5min);
  for (const int place : {0, 1, 2}) EXPECT_LT(at(place).opens - before, 70U);
  find(1);
  EXPECT_TRUE(sim_.run(link_->wait_until_connected(sim_.now() + 15s)));
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place1");
}

TEST_F(AlternatesTest, one_that_differs_in_a_single_block_is_barred_and_never_read_from) {
  at(1).content[100 * 4096 + 17] ^= std::byte{1};
  make_known(2);
  start_and_settle();
  lose(0);
  EXPECT_EQ(code_of(read()), Errc::busy);
  EXPECT_EQ(link_->in_use(), "");
  const auto opens = at(1).opens;
  const auto reads = at(1).reads;
  EXPECT_EQ(opens, 1U);
  sim_.run_for(10min);
  EXPECT_EQ(code_of(read()), Errc::busy);
  EXPECT_EQ(at(1).opens, opens);
  EXPECT_EQ(at(1).reads, reads);
  find(0);
  sim_.run_for(15s);
  EXPECT_TRUE(read()) << "the origin itself is never barred";
}

TEST_F(AlternatesTest, one_of_another_size_is_barred_unread) {
  at(1).content = disk_of(1, 2 * kDisk);
  make_known(2);
  start_and_settle();
  lose(0);
  EXPECT_EQ(code_of(read()), Errc::busy);
  EXPECT_EQ(at(1).opens, 1U);
  EXPECT_EQ(at(1).reads, 0U);
}

TEST_F(AlternatesTest, an_accepted_one_is_compared_again_when_it_comes_back_as_something_else) {
  make_known(2);
  start_and_settle();
  lose(0);
  ASSERT_TRUE(read());
  const auto reads = at(1).reads;
  ++at(1).epoch;  // Lost, and there again at once.
  ASSERT_TRUE(read());
  EXPECT_EQ(at(1).reads, reads + 2) << "the lost read and its repetition; no comparison";
  at(1).identity = "place:other";
  at(1).content = disk_of(2);
  ++at(1).epoch;
  EXPECT_EQ(code_of(read()), Errc::busy);
  EXPECT_EQ(link_->in_use(), "");
}

TEST_F(AlternatesTest, a_bad_sector_of_the_origin_proves_nothing_and_hinders_nothing) {
  at(0).bad_blocks = {0, 100};
  at(1).content[100 * 4096] ^= std::byte{1};  // Who knows which of them is right?
  make_known(2);
  start_and_settle();
  EXPECT_EQ(link_->in_use(), "place0");
  lose(0);
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place1");
}

TEST_F(AlternatesTest, before_the_origin_was_seen_the_samples_in_its_identity_decide) {
  MemoryOrigin same(places_[0]);
  ASSERT_TRUE(sim_.run(same.open()));
  const auto samples = sim_.run(sample_digest(same));
  ASSERT_TRUE(samples);
  sim_.run(same.close());
  lose(0);
  at(1).content = disk_of(2);
  make(3, OriginLink::Binding{kDisk, "nbd:size=1048576;samples=" + *samples});
  start_and_settle();
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place2");
  EXPECT_EQ(at(1).opens, 1U) << "barred";
}

TEST_F(AlternatesTest, one_that_cannot_be_compared_waits_until_the_origin_was_seen) {
  lose(0);
  make_known(2);
  start_and_settle();
  EXPECT_EQ(code_of(read()), Errc::busy);
  EXPECT_GT(at(1).opens, 1U) << "not barred";
  find(0);
  sim_.run_for(15s);
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place0");
  lose(0);
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place1");
}

TEST_F(AlternatesTest, an_origin_that_has_changed_is_replaced_by_one_that_has_not) {
  make_known(2);
  start_and_settle();
  at(0).identity = "place:changed";
  at(0).content = disk_of(2);
  ++at(0).epoch;
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place1");
  EXPECT_EQ(buffer_[5], disk_of(1)[8192 + 5]);
}

TEST_F(AlternatesTest, a_new_clone_belongs_to_its_origin_and_no_alternate_takes_its_place) {
  lose(0);
  make(2, std::nullopt);
  const auto opened = sim_.run(link_->open(sim_.now() + 5s));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::unavailable);
  EXPECT_EQ(at(1).opens, 0U);
  close();

  find(0);
  make(2, std::nullopt);
  ASSERT_TRUE(sim_.run(link_->open(sim_.now() + 5s)));
  EXPECT_EQ(link_->binding()->identity, "place:0");
  sim_.run_for(1s);  // Until it knows what to compare with.
  lose(0);
  EXPECT_TRUE(read());
  EXPECT_EQ(link_->in_use(), "place1");
}

TEST_F(AlternatesTest, a_disk_of_less_than_a_block_is_compared_too) {
  for (auto& place : places_) place->content.resize(512);
  at(2).content[511] ^= std::byte{1};
  make(3, OriginLink::Binding{512, "place:0"});
  start_and_settle();
  lose(0);
  lose(1);
  EXPECT_FALSE(sim_.run(link_->read(0, std::span(buffer_).first(512), sim_.now() + 20s)));
  EXPECT_EQ(at(2).opens, 1U);
}

}  // namespace
}  // namespace clonedev
