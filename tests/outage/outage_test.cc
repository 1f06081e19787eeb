// The whole device on real files, with a real server for its origin, which is in trouble: whatever
// does not need the origin does not notice, whatever does ends as the table says, nobody spins,
// closing waits for nothing, and when the trouble is over all is as it should be.

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "outage_bed.h"
#include "outage_table.h"

namespace clonedev {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLongerMeansNever = std::chrono::seconds(60);  // Of the test: longer means never.
// In an outage of some seconds: attempts begin 50 ms apart and grow apart, each may make a few.
constexpr unsigned kMostConnections = 100;

std::unique_ptr<TroubledOrigin> make_origin(const std::string& kind, const std::string& content) {
  if (kind == "NBD") return troubled_nbd(content);
  if (kind == "NBD with TLS") return troubled_nbds(content);
  if (kind == "HTTP") return troubled_http(content);
  if (kind == "HTTPS") return troubled_https(content);
  return troubled_iscsi(content);
}

class OutageTest : public OutageBed, public testing::WithParamInterface<OutageCell> {
 protected:
  void SetUp() override {
    origin_ = make_origin(cell_.kind, disk_);
    if (!origin_) GTEST_SKIP() << "its server is not installed";
    options_.origin = origin_->spec();
    options_.origin_ca = origin_->authority();
    open();
  }

  void begin_trouble() {
    if (cell_.trouble != Trouble::dns_gone) return origin_->set(cell_.trouble);
    device_->close();
    options_.origin = origin_->spec_at("nowhere.invalid");
    open();
  }
  void end_trouble() {
    if (cell_.trouble != Trouble::dns_gone) return origin_->set(Trouble::none);
    close_within_three_seconds();
    options_.origin = origin_->spec();
    open();
  }

  void what_is_here_works() {
    const std::uint64_t block = absent();
    EXPECT_TRUE(write(block * kBlock, kBlock));
    EXPECT_TRUE(write(block * kBlock + 512, 512)) << "a smaller one, to what is there";
    EXPECT_TRUE(read(block, std::string(kBlock, 'w')));
    EXPECT_TRUE(read(present_, std::string(kBlock, 'w')));
    EXPECT_TRUE(flush());
    EXPECT_EQ(device_->status().name, "vm");
  }
  // The same word for all that needs the origin, once it is known to be away.
  void loss_can_be_an_error() {
    say(OriginLoss::error);
    std::error_code code;
    const std::uint64_t block = absent();
    for (const auto until = Clock::now() + kLongerMeansNever; Clock::now() < until;) {
      const auto outcome = read(block, of_origin(block));
      code = outcome ? std::error_code() : outcome.error().code;
      if (code != Errc::busy) break;
    }
    EXPECT_EQ(code, Errc::origin_lost);
    const auto smaller = write(block * kBlock, 512);
    EXPECT_FALSE(smaller);
    if (!smaller) {
      EXPECT_EQ(smaller.error().code, Errc::origin_lost);
    }
    say(OriginLoss::busy);
  }
  void expect_ending(const Result<>& outcome) {
    if (cell_.ending == Ending::done) {
      EXPECT_TRUE(outcome) << outcome.error().message();
      return;
    }
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, cell_.ending == Ending::busy ? Errc::busy : Errc::origin_read)
        << outcome.error().message();
  }

  const OutageCell cell_ = GetParam();
  std::unique_ptr<TroubledOrigin> origin_;
  const std::uint64_t present_ = absent();
};

TEST_P(OutageTest, only_what_needs_the_origin_notices) {
  const bool one_place = cell_.trouble == Trouble::bad_sector;
  const std::uint64_t wanted = one_place ? kDisk / kBlock - 1 : absent();
  ASSERT_TRUE(write(present_ * kBlock, kBlock));
  const std::uint64_t first = absent();
  ASSERT_TRUE(read(first, of_origin(first)));
  const unsigned connections = origin_->connections();

  begin_trouble();
  auto reading = begin_read(wanted);
  if (cell_.trouble == Trouble::stalled) {
    while (!origin_->holds_something()) std::this_thread::yield();
  }
  what_is_here_works();
  expect_ending(reading->outcome());
  if (cell_.ending == Ending::busy) loss_can_be_an_error();
  if (one_place) {
    const std::uint64_t neighbour = absent();
    EXPECT_TRUE(read(neighbour, of_origin(neighbour)));
  }
  EXPECT_LT(origin_->connections() - connections, kMostConnections);

  end_trouble();
  becomes_well(wanted);

  begin_trouble();
  reading = begin_read(one_place ? wanted - 1 : absent());
  close_within_three_seconds();
  (void)reading->outcome();
}

std::string name_of(const testing::TestParamInfo<OutageCell>& info) {
  std::string kind;
  for (const char c : info.param.kind) kind += c == ' ' ? '_' : c;
  return kind + "_" + word_of(info.param.trouble);
}

INSTANTIATE_TEST_SUITE_P(Matrix, OutageTest, testing::ValuesIn(outage_table()), name_of);

}  // namespace
}  // namespace clonedev
