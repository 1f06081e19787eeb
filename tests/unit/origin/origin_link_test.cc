// The link over an origin of the test's own, in virtual time.
#include "origin/origin_link.h"

#include <gtest/gtest.h>

#include "support/sim_scheduler.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;

// What the world outside looks like; shared by all connections.
struct World {
  bool reachable = true;
  std::string identity = "test:1";
  std::uint64_t size = 1 << 20;
  Scheduler::Duration delay = 1ms;
  int bad_reads = 0;  // So many reads are answered with an error.
  bool lose_next_read = false;
  int opens = 0;
  int closes = 0;
  int reads = 0;
  std::vector<Scheduler::TimePoint> attempts;
};

class WorldOrigin final : public Origin {
 public:
  explicit WorldOrigin(World& world) : world_(world) {}

  Task<Result<>> open() override {
    const auto inside = gate_.enter();
    ++world_.opens;
    world_.attempts.push_back(Scheduler::current().now());
    co_await wait();
    if (!world_.reachable || closed_) co_return fail(Errc::unavailable, "origin test: no route");
    state_ = State::connected;
    co_return Result<>();
  }
  std::uint64_t size() const override { return world_.size; }
  Task<Result<std::string>> identity() override {
    const auto inside = gate_.enter();
    co_await wait();
    co_return world_.identity;
  }
  Task<Result<OriginBytes>> read(std::uint64_t, std::span<std::byte> room) override {
    const auto inside = gate_.enter();
    ++world_.reads;
    co_await wait();
    if (closed_ || !world_.reachable || std::exchange(world_.lose_next_read, false)) {
      state_ = State::down;
      co_return fail(Errc::unavailable, "origin test: reset");
    }
    if (world_.bad_reads > 0) {
      --world_.bad_reads;
      co_return fail(Errc::origin_read, "origin test: bad sector");
    }
    std::ranges::fill(room, std::byte{1});
    co_return OriginBytes{room};
  }
  Task<Result<std::vector<OriginExtent>>> extents(Extent range) override {
    const std::vector<OriginExtent> all{{range, false}};
    co_return all;
  }
  State state() const override { return world_.reachable ? state_ : State::down; }
  std::string last_error() const override { return ""; }
  Task<> close() override {
    if (!std::exchange(closed_, true)) ++world_.closes;
    state_ = State::closed;
    closing_.set();
    while (!gate_.idle()) co_await gate_.wait_for_change();
  }

 private:
  Event::Wait wait() { return closing_.wait_until(Scheduler::current().now() + world_.delay); }

  World& world_;
  State state_ = State::connecting;
  bool closed_ = false;
  Event closing_;
  Gate gate_;
};

class OriginLinkTest : public testing::Test {
 protected:
  ~OriginLinkTest() override { close(); }

  void make(std::optional<OriginLink::Binding> expected = {}) {
    const auto factory = [this] { return std::make_unique<WorldOrigin>(world_); };
    link_ = std::make_unique<OriginLink>("test", factory, std::move(expected));
  }
  void close() {
    if (link_) sim_.run(link_->close());
    link_.reset();
  }
  Scheduler::TimePoint in(Scheduler::Duration time) const { return sim_.now() + time; }
  Result<> open(Scheduler::Duration limit) { return sim_.run(link_->open(in(limit))); }
  Result<OriginBytes> read(Scheduler::Duration limit) {
    return sim_.run(link_->read(0, buffer_, in(limit)));
  }

  SimScheduler sim_;
  World world_;
  std::unique_ptr<OriginLink> link_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(4096);
};

TEST_F(OriginLinkTest, opens_reads_and_counts) {
  make();
  ASSERT_TRUE(open(1s));
  EXPECT_EQ(link_->state(), Origin::State::connected);
  EXPECT_EQ(link_->size(), 1u << 20);
  EXPECT_EQ(link_->binding()->identity, "test:1");
  EXPECT_TRUE(read(1s));
  EXPECT_EQ(buffer_[17], std::byte{1});
  EXPECT_EQ(link_->bytes_read(), 4096u);
  EXPECT_EQ(link_->errors(), 0u);
  EXPECT_TRUE(link_->believed_alive());
}

TEST_F(OriginLinkTest, open_tries_once_and_then_until_its_limit) {
  world_.reachable = false;
  make();
  const auto at_once = open(0s);
  ASSERT_FALSE(at_once);
  EXPECT_EQ(at_once.error().code, Errc::unavailable);
  EXPECT_EQ(at_once.error().message(), "origin test: no route");
  EXPECT_EQ(world_.opens, 1);
  close();

  make();
  const auto before = sim_.now();
  EXPECT_FALSE(open(3s));
  EXPECT_GE(sim_.now() - before, 3s);
  EXPECT_LT(sim_.now() - before, 14s);
  EXPECT_GT(world_.opens, 3);
}

TEST_F(OriginLinkTest, an_origin_with_other_content_is_not_read) {
  make(OriginLink::Binding{1 << 20, "test:0"});
  const auto opened = open(5s);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::foreign);
  EXPECT_TRUE(opened.error().message().starts_with("origin changed: "));
  EXPECT_EQ(link_->state(), Origin::State::down);
  EXPECT_EQ(world_.reads, 0);
}

TEST_F(OriginLinkTest, a_change_during_an_outage_stops_reading_until_the_right_one_is_back) {
  make();
  ASSERT_TRUE(open(1s));
  world_.lose_next_read = true;
  world_.identity = "test:2";
  const int reads = world_.reads;
  const auto done = read(20s);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::busy);
  EXPECT_TRUE(done.error().message().starts_with("origin changed: ")) << done.error().message();
  EXPECT_EQ(world_.reads, reads + 1) << "the one that was lost";
  EXPECT_FALSE(link_->believed_alive());
  EXPECT_EQ(link_->state(), Origin::State::down);
  world_.identity = "test:1";
  EXPECT_TRUE(sim_.run(link_->wait_until_connected(in(15s))));
  EXPECT_TRUE(read(1s));
}

TEST_F(OriginLinkTest, a_size_that_changed_is_another_origin) {
  make(OriginLink::Binding{1 << 20, "test:1"});
  world_.size = 2 << 20;
  EXPECT_EQ(open(1s).error().code, Errc::foreign);
}

TEST_F(OriginLinkTest, a_read_survives_a_lost_connection) {
  make();
  ASSERT_TRUE(open(1s));
  world_.lose_next_read = true;
  EXPECT_TRUE(read(20s));
  EXPECT_EQ(world_.opens, 2);
  EXPECT_EQ(world_.closes, 1);
  EXPECT_EQ(link_->errors(), 1u);
  EXPECT_EQ(link_->last_error(), "origin test: reset");
}

TEST_F(OriginLinkTest, a_read_is_busy_a_second_after_the_origin_is_known_to_be_down) {
  make();
  ASSERT_TRUE(open(1s));
  world_.reachable = false;
  const auto before = sim_.now();
  const auto done = read(20s);
  EXPECT_EQ(done.error().code, Errc::busy);
  EXPECT_EQ(done.error().message(), "origin test: no route");
  EXPECT_LT(sim_.now() - before, 1500ms);
  const auto again = sim_.now();
  EXPECT_EQ(read(20s).error().code, Errc::busy);
  EXPECT_LE(sim_.now() - again, 1010ms);
}

TEST_F(OriginLinkTest, a_read_gives_up_when_it_was_told_to) {
  world_.reachable = false;
  make();
  link_->start();
  const auto before = sim_.now();
  EXPECT_EQ(read(300ms).error().code, Errc::busy);
  EXPECT_EQ(sim_.now() - before, 300ms);
}

TEST_F(OriginLinkTest, a_read_begun_before_the_first_connection_succeeds_with_it) {
  make(OriginLink::Binding{1 << 20, "test:1"});
  link_->start();
  EXPECT_EQ(link_->state(), Origin::State::connecting);
  EXPECT_EQ(link_->size(), 1u << 20);
  EXPECT_TRUE(read(5s));
}

TEST_F(OriginLinkTest, an_error_of_the_origin_is_tried_three_times) {
  make();
  ASSERT_TRUE(open(1s));
  world_.bad_reads = 2;
  EXPECT_TRUE(read(20s));
  EXPECT_EQ(world_.reads, 3);
  world_.bad_reads = 3;
  const auto done = read(20s);
  EXPECT_EQ(done.error().code, Errc::origin_read);
  EXPECT_EQ(world_.reads, 6);
  EXPECT_EQ(link_->errors(), 5u);
  EXPECT_EQ(link_->state(), Origin::State::connected);
}

TEST_F(OriginLinkTest, attempts_grow_apart_with_jitter_up_to_ten_seconds) {
  world_.reachable = false;
  make();
  link_->start();
  sim_.run_for(5min);
  const auto& at = world_.attempts;
  ASSERT_GT(at.size(), 20u);
  EXPECT_LT(at.size(), 80u);
  EXPECT_LT(at[1] - at[0], 110ms);
  EXPECT_GE(at[1] - at[0], 50ms);
  for (std::size_t i = 10; i + 1 < at.size(); ++i) {
    EXPECT_GE(at[i + 1] - at[i], 5s);
    EXPECT_LE(at[i + 1] - at[i], 10s + 10ms);
  }
}

TEST_F(OriginLinkTest, a_server_that_drops_every_read_is_not_hammered) {
  make();
  ASSERT_TRUE(open(1s));
  for (int i = 0; i < 6; ++i) {
    world_.lose_next_read = true;
    sim_.run(link_->wait_until_connected(in(1min)));
    // Lost again before anything was read.
    world_.lose_next_read = true;
    (void)sim_.run(link_->read(0, buffer_, in(1ms)));
  }
  const auto& at = world_.attempts;
  ASSERT_GE(at.size(), 6u);
  EXPECT_GE(at.back() - at.front(), 1500ms);
}

TEST_F(OriginLinkTest, an_idle_connection_that_breaks_is_noticed) {
  make();
  ASSERT_TRUE(open(1s));
  world_.reachable = false;
  sim_.run_for(5s);
  EXPECT_EQ(link_->state(), Origin::State::down);
  world_.reachable = true;
  sim_.run_for(15s);
  EXPECT_EQ(link_->state(), Origin::State::connected);
}

TEST_F(OriginLinkTest, close_ends_every_wait_at_once) {
  world_.delay = 1h;  // A read, or a connection, that would take for ever.
  make(OriginLink::Binding{1 << 20, "test:1"});
  link_->start();
  auto waiting = link_->read(0, buffer_, in(20s));
  auto connected = link_->wait_until_connected(in(1h));
  sim_.run_for(1s);
  const auto before = sim_.now();
  sim_.run(link_->close());
  EXPECT_EQ(sim_.now(), before);
  ASSERT_TRUE(waiting.done());
  EXPECT_EQ(waiting.take().error().code, Errc::closed);
  sim_.settle();
  ASSERT_TRUE(connected.done());
  EXPECT_FALSE(connected.take());
  EXPECT_EQ(link_->state(), Origin::State::closed);
  EXPECT_EQ(read(20s).error().code, Errc::closed);
  EXPECT_EQ(world_.opens, world_.closes);
}

TEST_F(OriginLinkTest, close_ends_a_read_inside_the_origin) {
  make();
  ASSERT_TRUE(open(1s));
  world_.delay = 1h;
  auto reading = link_->read(0, buffer_, in(20s));
  sim_.run_for(1s);
  EXPECT_FALSE(reading.done());
  const auto before = sim_.now();
  sim_.run(link_->close());
  EXPECT_EQ(sim_.now(), before);
  ASSERT_TRUE(reading.done());
  EXPECT_EQ(reading.take().error().code, Errc::closed);
}

}  // namespace
}  // namespace clonedev
