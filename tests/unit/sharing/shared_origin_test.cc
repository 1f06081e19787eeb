// Two clones of one origin in one process: what they share, and that neither depends on the other.

#include "sharing/shared_origin.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "support/hostile_nbd_server.h"
#include "support/nbd_server.h"
#include "support/nginx_server.h"
#include "support/run_on_reactor.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kRead = 65536;
constexpr auto kLongestClose = 3s;
constexpr std::byte kUntouched{0xee};

// A clone's end, on a reactor of its own that runs when the test says so.
class Clone {
 public:
  Clone(const std::string& uri, const OriginSettings& settings) {
    auto factory = shared_origin_factory(uri, *reactor_, settings);
    if (!factory) std::abort();
    factory_ = std::move(*factory);
    origin_ = factory_();
  }
  ~Clone() { close(); }
  Clone(const Clone&) = delete;
  Clone& operator=(const Clone&) = delete;

  Origin& origin() { return *origin_; }
  Result<> open() {
    return run_on(*reactor_, [this] { return origin_->open(); });
  }
  void close() {
    run_on(*reactor_, [this] { return origin_->close(); });
  }
  // As a link does after a loss.
  Result<> open_again() {
    close();
    origin_ = factory_();
    return open();
  }
  Result<std::string> identity() {
    return run_on(*reactor_, [this] { return origin_->identity(); });
  }
  void begin_open() {
    running_ = [this] { return origin_->open(); };
    begin();
  }
  void begin_read(std::uint64_t offset, std::size_t length = kRead) {
    buffer.resize(length);
    running_ = [this, offset] { return read(offset); };
    begin();
  }
  Result<> outcome() {
    run_on(*reactor_, [this] { return wait(); });
    return task_.take();
  }
  void let_pass(Scheduler::Duration time) {
    run_on(*reactor_, [this, time] { return pause(time); });
  }

  std::vector<std::byte> buffer;
  OriginBytes brought;  // By the last read.

 private:
  void begin() {
    run_on(*reactor_, [this] {
      task_ = running_();
      return pause(1ms);
    });
  }
  // As who asks does: the room is to stay what it is.
  Task<Result<>> read(std::uint64_t offset) {
    std::vector<std::byte> room(buffer.size(), kUntouched);
    auto done = co_await origin_->read(offset, room);
    EXPECT_EQ(room, std::vector<std::byte>(room.size(), kUntouched));
    if (!done) co_return fail(done.error());
    brought = std::move(*done);
    std::ranges::copy(brought.bytes, buffer.begin());
    co_return Result<>();
  }
  Task<> wait() {
    while (!task_.done()) co_await reactor_->sleep_for(1ms);
  }
  Task<> pause(Scheduler::Duration time) { co_await reactor_->sleep_for(time); }

  std::unique_ptr<Reactor> reactor_ = new_reactor();
  OriginFactory factory_;
  std::unique_ptr<Origin> origin_;
  std::function<Task<Result<>>()> running_;
  Task<Result<>> task_;
};

class SharedOriginTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!NbdServer::available()) GTEST_SKIP() << "nbdkit is not installed";
  }
  void serve(const std::string& delay = "0") {
    server_ = std::make_unique<NbdServer>(
        std::vector<std::string>{"--filter=log", "--filter=delay", "pattern", "16M",
                                 "rdelay=" + delay, "logfile={folder}/log"});
    server_->start();
  }
  std::unique_ptr<Clone> clone(unsigned connections = 1) {
    return std::make_unique<Clone>(server_->uri(),
                                   OriginSettings{.timeout = 60s, .connections = connections});
  }
  // Together, so that neither looks again at what the other has opened.
  void open(Clone& first, Clone& second) {
    server_->freeze();
    first.begin_open();
    second.begin_open();
    server_->thaw();
    ASSERT_TRUE(first.outcome());
    ASSERT_TRUE(second.outcome());
  }
  unsigned reads() const { return server_->logged(" Read "); }
  unsigned connections() const {
    return server_->logged(" Connect ") - server_->logged(" Disconnect ");
  }
  bool comes_to_connections(Clone& clone, unsigned count) {
    for (int i = 0; i < 500 && connections() != count; ++i) clone.let_pass(10ms);
    return connections() == count;
  }

  std::unique_ptr<NbdServer> server_;
};

TEST_F(SharedOriginTest, clones_share_connections_and_equal_reads_under_way) {
  serve("300ms");
  const auto first = clone();
  const auto second = clone();
  open(*first, *second);
  EXPECT_EQ(connections(), 1U);
  EXPECT_EQ(second->origin().size(), 16U << 20);
  const unsigned before = reads();
  first->begin_read(0);
  second->begin_read(4096, 8192);  // Inside the first one's.
  ASSERT_TRUE(second->outcome());
  ASSERT_TRUE(first->outcome());
  EXPECT_TRUE(is_nbd_pattern(0, first->buffer));
  EXPECT_TRUE(is_nbd_pattern(4096, second->buffer));
  EXPECT_EQ(reads() - before, 1U);
  second->begin_read(4096, 8192);
  ASSERT_TRUE(second->outcome());
  EXPECT_EQ(reads() - before, 2U) << "what has landed is not kept";
}

TEST_F(SharedOriginTest, readers_share_the_memory_but_a_small_part_keeps_no_large_one) {
  serve("300ms");
  const auto first = clone();
  const auto second = clone();
  const auto third = clone();
  open(*first, *second);
  ASSERT_TRUE(third->open());
  first->begin_read(0);
  second->begin_read(kRead / 2, kRead / 2);
  third->begin_read(4096, 4096);
  for (Clone* one : {first.get(), second.get(), third.get()}) ASSERT_TRUE(one->outcome());
  EXPECT_TRUE(is_nbd_pattern(4096, third->buffer));
  EXPECT_EQ(second->brought.memory, first->brought.memory);
  EXPECT_NE(third->brought.memory, first->brought.memory);
}

TEST_F(SharedOriginTest, what_was_read_stays_while_somebody_holds_it) {
  serve();
  const auto first = clone();
  const auto second = clone();
  open(*first, *second);
  first->begin_read(0);
  ASSERT_TRUE(first->outcome());
  second->begin_read(kRead);
  ASSERT_TRUE(second->outcome());
  EXPECT_TRUE(is_nbd_pattern(0, first->brought.bytes));
  EXPECT_TRUE(is_nbd_pattern(kRead, second->brought.bytes));
}

TEST_F(SharedOriginTest, whoever_closes_waits_for_nothing_and_spoils_nothing) {
  serve("300ms");
  const auto first = clone();
  const auto second = clone();
  open(*first, *second);
  const unsigned before = reads();
  first->begin_read(0);
  second->begin_read(0);
  first->close();
  EXPECT_EQ(first->outcome().error().code, Errc::unavailable);
  EXPECT_EQ(first->origin().state(), Origin::State::closed);
  ASSERT_TRUE(second->outcome());
  EXPECT_TRUE(is_nbd_pattern(0, second->buffer));
  EXPECT_EQ(reads() - before, 1U);
}

TEST_F(SharedOriginTest, closing_does_not_wait_for_a_server_that_hangs) {
  serve();
  const auto first = clone();
  const auto second = clone();
  const auto third = clone();
  open(*first, *second);
  server_->freeze();
  first->begin_read(0);
  second->begin_read(0);
  third->begin_open();
  const auto begin = Clock::now();
  for (const auto& one : {first.get(), third.get(), second.get()}) {
    one->close();
    EXPECT_FALSE(one->outcome());
  }
  EXPECT_LT(Clock::now() - begin, kLongestClose);
  server_->thaw();
}

// Answers all but the reads at kHole, which it counts. One connection.
class ForgetfulServer {
 public:
  static constexpr std::uint64_t kHole = 512 << 10;

  std::string uri() const { return server_.uri(); }
  unsigned forgotten() const { return forgotten_; }

 private:
  void serve(HostilePeer& peer) {
    std::this_thread::sleep_for(300ms);  // Both clones are to wait for one opening.
    if (!peer.handshake(1 << 20, true)) return;
    for (HostilePeer::Request request; peer.next(request);) {
      if (request.offset == kHole && request.length == kRead) {
        ++forgotten_;
      } else {
        peer.data_chunk(request, true, request.offset, HostilePeer::Bytes(request.length, 7));
      }
    }
  }

  std::atomic<unsigned> forgotten_ = 0;
  HostileNbdServer server_{[this](HostilePeer& peer) { serve(peer); }};
};

void open_together(Clone& first, Clone& second) {
  first.begin_open();
  second.begin_open();
  ASSERT_TRUE(first.outcome());
  ASSERT_TRUE(second.outcome());
}

TEST_F(SharedOriginTest, nobody_joins_a_read_that_may_hang_for_ever) {
  ForgetfulServer server;
  Clone first(server.uri(), {.timeout = 60s, .connections = 1});
  Clone second(server.uri(), {.timeout = 60s, .connections = 1});
  open_together(first, second);
  first.begin_read(ForgetfulServer::kHole);
  second.let_pass(2500ms);
  second.begin_read(ForgetfulServer::kHole);
  for (int i = 0; i < 500 && server.forgotten() < 2; ++i) second.let_pass(10ms);
  EXPECT_EQ(server.forgotten(), 2U);
  for (Clone* one : {&first, &second}) {
    one->close();
    EXPECT_FALSE(one->outcome());
  }
}

// Others' answers keep the connection's own watchdog quiet.
TEST_F(SharedOriginTest, one_read_without_an_answer_ends_the_connection_however_well_others_do) {
  ForgetfulServer server;
  Clone first(server.uri(), {.timeout = 1s, .connections = 1});
  Clone second(server.uri(), {.timeout = 1s, .connections = 1});
  open_together(first, second);
  first.begin_read(ForgetfulServer::kHole);
  const auto begin = Clock::now();
  while (first.origin().state() == Origin::State::connected && Clock::now() - begin < 20s) {
    second.begin_read(0);
    (void)second.outcome();
    second.let_pass(50ms);
  }
  EXPECT_GE(Clock::now() - begin, 2s);
  EXPECT_EQ(first.outcome().error().code, Errc::unavailable);
  EXPECT_EQ(second.origin().state(), Origin::State::down);
  EXPECT_NE(second.origin().last_error().find("without an answer"), std::string::npos);
}

TEST_F(SharedOriginTest, the_last_one_closes_the_connections) {
  serve();
  const auto first = clone(4);
  const auto second = clone(4);
  ASSERT_TRUE(first->open());
  ASSERT_TRUE(second->open());
  EXPECT_TRUE(comes_to_connections(*second, 4)) << connections();
  first->close();
  second->begin_read(0);
  EXPECT_TRUE(second->outcome()) << "the other one has it still";
  EXPECT_EQ(connections(), 4U);
  second->close();
  EXPECT_TRUE(comes_to_connections(*second, 0)) << connections();
}

TEST_F(SharedOriginTest, who_leaves_while_it_is_opened_takes_nothing_from_the_other) {
  serve();
  server_->freeze();
  const auto first = clone();
  const auto second = clone();
  first->begin_open();
  second->begin_open();
  first->close();
  EXPECT_FALSE(first->outcome());
  server_->thaw();
  EXPECT_TRUE(second->outcome());
  EXPECT_EQ(connections(), 1U);
}

TEST_F(SharedOriginTest, a_loss_is_everybodys_and_all_come_back_to_one) {
  serve();
  const auto first = clone();
  const auto second = clone();
  ASSERT_TRUE(first->open());
  ASSERT_TRUE(second->open());
  server_->kill();
  first->begin_read(0);
  EXPECT_EQ(first->outcome().error().code, Errc::unavailable);
  for (int i = 0; i < 500 && second->origin().state() == Origin::State::connected; ++i) {
    second->let_pass(10ms);
  }
  EXPECT_EQ(second->origin().state(), Origin::State::down) << "an idle one hears of it too";
  EXPECT_FALSE(first->open_again()) << "the server is still away";
  server_->start();
  ASSERT_TRUE(first->open_again());
  ASSERT_TRUE(second->open_again());
  EXPECT_TRUE(comes_to_connections(*second, 1)) << connections();
  second->begin_read(4096);
  ASSERT_TRUE(second->outcome());
  EXPECT_TRUE(is_nbd_pattern(4096, second->buffer));
}

// Who comes now means what is there now; nbdkit opens the file anew for each connection, so there
// is one.
TEST_F(SharedOriginTest, a_file_that_was_replaced_is_not_shared_with_who_comes_later) {
  NbdServer server({"file", "{folder}/disk"});
  server.write_file("disk", std::string(1 << 20, 'a'));
  server.start();
  Clone first(server.uri(), {.connections = 1});
  ASSERT_TRUE(first.open());
  server.write_file("new", std::string(1 << 20, 'b'));
  std::filesystem::rename(server.file("new"), server.file("disk"));
  Clone second(server.uri(), {.connections = 1});
  ASSERT_TRUE(second.open());
  EXPECT_NE(*second.identity(), *first.identity());
  second.begin_read(0);
  ASSERT_TRUE(second.outcome());
  EXPECT_EQ(second.buffer[0], std::byte{'b'});
  first.begin_read(0);
  ASSERT_TRUE(first.outcome());
  EXPECT_EQ(first.buffer[0], std::byte{'a'}) << "whoever has the old one keeps it";
}

// Its size and samples are the same, and so is its identity.
TEST_F(SharedOriginTest, a_file_that_was_replaced_by_a_similar_one_is_not_shared_either) {
  constexpr std::size_t kUnsampled = 5 * 4096;
  NbdServer server({"file", "{folder}/disk"});
  std::string content(1 << 20, 'a');
  server.write_file("disk", content);
  server.start();
  Clone first(server.uri(), {.connections = 1});
  ASSERT_TRUE(first.open());
  content[kUnsampled] = 'b';
  server.write_file("new", content);
  std::filesystem::rename(server.file("new"), server.file("disk"));
  Clone second(server.uri(), {.connections = 1});
  ASSERT_TRUE(second.open());
  ASSERT_EQ(*second.identity(), *first.identity());
  second.begin_read(kUnsampled);
  ASSERT_TRUE(second.outcome());
  EXPECT_EQ(second.buffer[0], std::byte{'b'});
}

TEST_F(SharedOriginTest, an_object_that_was_replaced_is_not_shared_with_who_comes_later) {
  if (!NginxServer::available()) GTEST_SKIP() << "nginx is not installed";
  NginxServer server;
  server.write_file("disk", std::string(kRead, 'a'));
  server.start();
  Clone first(server.url("disk"), {});
  ASSERT_TRUE(first.open());
  server.write_file("disk", std::string(2 * kRead, 'b'));
  Clone second(server.url("disk"), {});
  ASSERT_TRUE(second.open());
  EXPECT_EQ(second.origin().size(), 2 * kRead);
  EXPECT_NE(*second.identity(), *first.identity());
  first.begin_read(0);
  EXPECT_EQ(first.outcome().error().code, Errc::unavailable) << "it was of the old one";
}

TEST_F(SharedOriginTest, others_with_other_settings_are_others) {
  serve();
  const auto first = clone();
  const auto second =
      std::make_unique<Clone>(server_->uri(), OriginSettings{.timeout = 59s, .connections = 1});
  ASSERT_TRUE(first->open());
  ASSERT_TRUE(second->open());
  EXPECT_EQ(connections(), 2U);
}

TEST_F(SharedOriginTest, an_error_beside_what_is_wanted_is_nobodys) {
  constexpr std::uint16_t kErrorChunk = (1 << 15) + 1;
  HostileNbdServer server([](HostilePeer& peer) {
    std::this_thread::sleep_for(300ms);
    if (!peer.handshake(1 << 20, true)) return;
    for (HostilePeer::Request request; peer.next(request);) {
      if (request.length > 4096) {
        std::this_thread::sleep_for(300ms);
        peer.chunk(request, 1, kErrorChunk, {0, 0, 0, 5, 0, 0});  // EIO.
      } else {
        peer.data_chunk(request, true, request.offset, HostilePeer::Bytes(request.length, 7));
      }
    }
  });
  Clone first(server.uri(), {.connections = 1});
  Clone second(server.uri(), {.connections = 1});
  open_together(first, second);
  first.begin_read(0);
  second.begin_read(0, 4096);
  EXPECT_EQ(first.outcome().error().code, Errc::origin_read);
  EXPECT_TRUE(second.outcome());
  EXPECT_EQ(second.buffer, std::vector<std::byte>(4096, std::byte{7}));
}

}  // namespace
}  // namespace clonedev
