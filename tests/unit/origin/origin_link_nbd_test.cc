// The link over real servers that die, come back, and come back with something else.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "origin/origin_link.h"
#include "support/nbd_server.h"
#include "support/run_on_reactor.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class OriginLinkNbd : public testing::Test {
 protected:
  void SetUp() override {
    if (!NbdServer::available()) GTEST_SKIP() << "nbdkit is not installed";
  }
  ~OriginLinkNbd() override {
    if (link_) run_on(*reactor_, [this] { return link_->close(); });
  }
  void make(NbdServer& server, std::chrono::milliseconds timeout = 5s,
            Scheduler::Duration patience_when_down = 1s) {
    auto factory = origin_factory(server.uri(), *reactor_, {.timeout = timeout});
    if (!factory) std::abort();
    OriginLink::Pace pace;
    pace.patience_when_down = patience_when_down;
    link_ = std::make_unique<OriginLink>(server.uri(), *factory, std::nullopt, pace);
  }
  Result<> open() {
    return run_on(*reactor_, [this] { return link_->open(Clock::now() + 10s); });
  }
  Result<OriginBytes> read(std::uint64_t offset, Scheduler::Duration limit) {
    return run_on(*reactor_, [&] { return link_->read(offset, buffer_, Clock::now() + limit); });
  }

  std::unique_ptr<Reactor> reactor_ = new_reactor();
  std::unique_ptr<OriginLink> link_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(65536);
};

TEST_F(OriginLinkNbd, a_read_survives_a_server_killed_in_the_middle_and_restarted) {
  NbdServer server({"--filter=delay", "pattern", "16M", "rdelay=300ms"}, true);
  server.start();
  make(server, 5s, 10s);
  ASSERT_TRUE(open());
  std::atomic<bool> over = false;
  std::thread trouble([&server, &over] {
    std::this_thread::sleep_for(100ms);
    server.kill();
    server.start();
    for (int i = 0; i < 2000 && !over; ++i) std::this_thread::sleep_for(10ms);
  });
  const auto done = read(1 << 20, 10s);
  over = true;
  trouble.join();
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_EQ(buffer_[5], std::byte{0x10});  // Offset 0x100000 at its sixth byte.
  EXPECT_GE(link_->errors(), 1u);
}

TEST_F(OriginLinkNbd, while_the_server_is_away_reads_are_busy_with_the_reason) {
  NbdServer server({"pattern", "16M"}, true);
  server.start();
  make(server);
  ASSERT_TRUE(open());
  server.kill();
  const auto begin = Clock::now();
  const auto done = read(0, 20s);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::busy);
  EXPECT_NE(done.error().message().find("Connection refused"), std::string::npos)
      << done.error().message();
  EXPECT_LT(Clock::now() - begin, 3s);
  EXPECT_EQ(link_->state(), Origin::State::down);
  EXPECT_FALSE(link_->believed_alive());
  server.start();
  EXPECT_TRUE(run_on(*reactor_, [&] { return link_->wait_until_connected(Clock::now() + 15s); }));
  EXPECT_TRUE(read(0, 5s));
}

TEST_F(OriginLinkNbd, a_server_back_with_other_content_is_refused) {
  NbdServer server({"file", "{folder}/disk"});
  server.write_file("disk", std::string(1 << 20, 'a'));
  server.start();
  make(server);
  ASSERT_TRUE(open());
  ASSERT_TRUE(read(0, 5s));
  server.kill();
  server.write_file("disk", std::string(1 << 20, 'b'));
  server.start();
  const std::vector<std::byte> before = buffer_;
  const auto done = read(0, 5s);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::busy);
  EXPECT_TRUE(done.error().message().starts_with("origin changed: ")) << done.error().message();
  EXPECT_EQ(buffer_, before);
}

TEST_F(OriginLinkNbd, a_frozen_server_costs_one_time_out_and_close_is_quick) {
  NbdServer server({"pattern", "16M"});
  server.start();
  make(server, 500ms);
  ASSERT_TRUE(open());
  server.freeze();
  const auto begin = Clock::now();
  const auto done = read(0, 2s);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::busy);
  EXPECT_LT(Clock::now() - begin, 5s);
  const auto closing = Clock::now();
  run_on(*reactor_, [this] { return link_->close(); });
  EXPECT_LT(Clock::now() - closing, 1s);
  server.thaw();
}

}  // namespace
}  // namespace clonedev
