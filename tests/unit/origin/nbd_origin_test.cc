#include "origin/nbd_origin.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "support/nbd_server.h"
#include "support/run_on_reactor.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class NbdOriginTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!NbdServer::available()) GTEST_SKIP() << "nbdkit is not installed";
  }
  ~NbdOriginTest() override { close(); }

  void serve(std::vector<std::string> arguments, bool tcp = false) {
    server_ = std::make_unique<NbdServer>(std::move(arguments), tcp);
    server_->start();
  }
  Result<> open(Scheduler::Duration patience = 10s, unsigned connections = 4) {
    close();
    origin_ = std::make_unique<NbdOrigin>(*reactor_, server_->uri(), patience, connections);
    return run_on(*reactor_, [this] { return origin_->open(); });
  }
  void close() {
    if (origin_) run_on(*reactor_, [this] { return origin_->close(); });
    origin_.reset();
  }
  Result<OriginBytes> read(std::uint64_t offset, std::span<std::byte> buffer) {
    return run_on(*reactor_, [&] { return origin_->read(offset, buffer); });
  }
  void let_pass(Scheduler::Duration time) {
    run_on(*reactor_, [&] { return pause(time); });
  }
  Task<> pause(Scheduler::Duration time) { co_await reactor_->sleep_for(time); }

  std::unique_ptr<Reactor> reactor_ = new_reactor();
  std::unique_ptr<NbdServer> server_;
  std::unique_ptr<NbdOrigin> origin_;
};

TEST_F(NbdOriginTest, reads_over_a_unix_socket_whatever_the_alignment) {
  serve({"pattern", "16M"});
  ASSERT_TRUE(open());
  EXPECT_EQ(origin_->size(), 16u << 20);
  const Extent ranges[] = {{0, 4096}, {4096, 3 << 20}, {1, 7}, {(16 << 20) - 3, 3}};
  for (const Extent& range : ranges) {
    std::vector<std::byte> buffer(range.length);
    ASSERT_TRUE(read(range.offset, buffer));
    EXPECT_TRUE(is_nbd_pattern(range.offset, buffer)) << range.offset;
  }
}

TEST_F(NbdOriginTest, reads_over_tcp) {
  serve({"pattern", "1M"}, true);
  ASSERT_TRUE(open());
  std::vector<std::byte> buffer(1 << 20);
  ASSERT_TRUE(read(0, buffer));
  EXPECT_TRUE(is_nbd_pattern(0, buffer));
}

TEST_F(NbdOriginTest, reads_over_tls_with_a_key_and_never_tells_the_user) {
  server_ = std::make_unique<NbdServer>(
      std::vector<std::string>{"--tls=require", "--tls-psk={folder}/psk", "pattern", "1M"}, true);
  server_->write_file("psk", "alice:00112233445566778899aabbccddeeff\n");
  server_->start();
  const std::string address = server_->uri().substr(std::string("nbd://").size());
  const std::string psk = server_->file("psk");
  const auto connect = [&](const std::string& user) {
    close();
    origin_ = std::make_unique<NbdOrigin>(
        *reactor_, "nbds://" + user + "@" + address + "/?tls-psk-file=" + psk, 10s, 4u);
    return run_on(*reactor_, [this] { return origin_->open(); });
  };
  const auto opened = connect("alice");
  ASSERT_TRUE(opened) << opened.error().message();
  std::vector<std::byte> buffer(300'000);
  ASSERT_TRUE(read(4096, buffer));
  EXPECT_TRUE(is_nbd_pattern(4096, buffer));
  const auto refused = connect("mallory");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message().find("mallory"), std::string::npos)
      << refused.error().message();
}

TEST_F(NbdOriginTest, makes_four_connections_when_the_server_allows_and_uses_them_all) {
  serve(
      {"--filter=log", "--filter=delay", "pattern", "16M", "logfile={folder}/log", "rdelay=20ms"});
  ASSERT_TRUE(open());
  let_pass(300ms);
  EXPECT_EQ(origin_->usable_connections(), 4u);
  std::vector<std::byte> buffer(8 << 20);
  ASSERT_TRUE(read(0, buffer));
  EXPECT_TRUE(is_nbd_pattern(0, buffer));
  EXPECT_EQ(server_->logged(" Connect "), 4u);
  EXPECT_EQ(server_->logged(" Read "), 8u) << "one for each MiB";
  for (int connection = 1; connection <= 4; ++connection) {
    EXPECT_GE(server_->logged("connection=" + std::to_string(connection) + " Read"), 1u);
  }
}

TEST_F(NbdOriginTest, makes_one_connection_when_the_server_does_not_promise_one_content) {
  serve({"--filter=multi-conn", "--filter=log", "memory", "1M", "multi-conn-mode=disable",
         "logfile={folder}/log"});
  ASSERT_TRUE(open());
  let_pass(100ms);
  EXPECT_EQ(origin_->usable_connections(), 1u);
  EXPECT_EQ(server_->logged(" Connect "), 1u);
}

TEST_F(NbdOriginTest, keeps_many_requests_in_flight) {
  serve({"--filter=delay", "pattern", "64M", "rdelay=50ms"});
  ASSERT_TRUE(open());
  let_pass(400ms);
  std::vector<std::byte> buffer(32 << 20);
  const auto begin = Clock::now();
  ASSERT_TRUE(read(0, buffer));
  EXPECT_LT(Clock::now() - begin, 800ms) << "one after the other would take 1.6 s";
}

TEST_F(NbdOriginTest, splits_and_aligns_as_the_server_demands) {
  serve({"--filter=blocksize-policy", "pattern", "4M", "blocksize-minimum=16K",
         "blocksize-preferred=64K", "blocksize-maximum=64K", "blocksize-error-policy=error"});
  ASSERT_TRUE(open());
  const Extent ranges[] = {{0, 1 << 20}, {4096, 4096}, {4096, 300 << 10}, {(4 << 20) - 512, 512}};
  for (const Extent& range : ranges) {
    std::vector<std::byte> buffer(range.length);
    const auto done = read(range.offset, buffer);
    ASSERT_TRUE(done) << done.error().message();
    EXPECT_TRUE(is_nbd_pattern(range.offset, buffer)) << range.offset;
  }
  const auto parts = run_on(*reactor_, [&] { return origin_->extents({4096, 8192}); });
  ASSERT_TRUE(parts);
  EXPECT_EQ(parts->front().extent, (Extent{4096, 8192}));
}

TEST_F(NbdOriginTest, tells_the_holes_of_a_sparse_disk) {
  serve({"data", "1 @0x100000 2*1048576 @0x4000000 3", "size=128M"});
  ASSERT_TRUE(open());
  std::uint64_t at = 0;
  std::uint64_t data = 0;
  bool zero_first = true;
  while (at < origin_->size()) {
    const Extent rest{at, origin_->size() - at};
    const auto parts = run_on(*reactor_, [&] { return origin_->extents(rest); });
    ASSERT_TRUE(parts);
    ASSERT_FALSE(parts->empty());
    if (at == 0) zero_first = parts->front().zero;
    for (const OriginExtent& part : *parts) {
      ASSERT_EQ(part.extent.offset, at);
      at = part.extent.end();
      if (!part.zero) data += part.extent.length;
    }
  }
  EXPECT_EQ(at, origin_->size());
  EXPECT_FALSE(zero_first);
  EXPECT_GE(data, 1u << 20);
  EXPECT_LE(data, 2u << 20) << "nearly all of it is a hole";
}

TEST_F(NbdOriginTest, without_block_status_everything_is_data) {
  serve({"--no-sr", "memory", "1M"});
  ASSERT_TRUE(open());
  const auto parts = run_on(*reactor_, [&] { return origin_->extents({0, 1 << 20}); });
  ASSERT_TRUE(parts);
  ASSERT_EQ(parts->size(), 1u);
  EXPECT_FALSE(parts->front().zero);
  std::vector<std::byte> buffer(65536);  // And simple replies are understood.
  EXPECT_TRUE(read(0, buffer));
}

TEST_F(NbdOriginTest, an_error_of_the_server_fails_the_read_and_keeps_the_connection) {
  serve({"--filter=error", "pattern", "1M", "error-pread=EIO", "error-pread-rate=100%",
         "error-file={folder}/broken"});
  ASSERT_TRUE(open());
  std::vector<std::byte> buffer(4096);
  ASSERT_TRUE(read(0, buffer));
  server_->write_file("broken", "");
  const auto done = read(8192, buffer);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::origin_read);
  EXPECT_NE(done.error().message().find("4096 bytes at 8192: Input/output error"),
            std::string::npos)
      << done.error().message();
  std::filesystem::remove(server_->file("broken"));
  EXPECT_TRUE(read(8192, buffer));
  EXPECT_EQ(origin_->state(), Origin::State::connected);
}

TEST_F(NbdOriginTest, identity_is_the_content_and_the_size) {
  const auto identity_of = [this](std::vector<std::string> arguments) {
    serve(std::move(arguments));
    EXPECT_TRUE(open());
    const auto id = run_on(*reactor_, [this] { return origin_->identity(); });
    close();
    return id ? *id : id.error().message();
  };
  const std::string one = identity_of({"pattern", "1M"});
  EXPECT_TRUE(one.starts_with("nbd:size=1048576;samples=")) << one;
  EXPECT_EQ(one, identity_of({"pattern", "1M"}));
  EXPECT_NE(one, identity_of({"memory", "1M"}));
  EXPECT_NE(one, identity_of({"pattern", "2M"}));
}

TEST_F(NbdOriginTest, an_empty_export_is_refused) {
  serve({"memory", "0"});
  const auto opened = open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::refused);
  EXPECT_NE(opened.error().message().find("is empty"), std::string::npos);
}

TEST_F(NbdOriginTest, a_server_that_is_not_there_is_named_with_the_reason) {
  serve({"memory", "1M"}, true);
  server_->kill();
  const auto opened = open();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::unavailable);
  EXPECT_NE(opened.error().message().find("nbd://127.0.0.1:"), std::string::npos);
  EXPECT_NE(opened.error().message().find("Connection refused"), std::string::npos)
      << opened.error().message();
}

TEST_F(NbdOriginTest, a_name_that_does_not_resolve_is_an_error_and_nobody_waits_for_it) {
  origin_ = std::make_unique<NbdOrigin>(*reactor_, "nbd://no-such-host.invalid/x", 10s, 4);
  const auto opened = run_on(*reactor_, [this] { return origin_->open(); });
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::unavailable);
  EXPECT_NE(opened.error().message().find("no-such-host.invalid"), std::string::npos);
}

TEST_F(NbdOriginTest, a_server_killed_in_mid_read_fails_the_reads_at_once) {
  serve({"--filter=delay", "pattern", "1M", "rdelay=30"});
  ASSERT_TRUE(open(60s));
  std::vector<std::byte> buffer(65536);
  std::thread killer([this] {
    std::this_thread::sleep_for(200ms);
    server_->kill();
  });
  const auto begin = Clock::now();
  const auto done = read(0, buffer);
  killer.join();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::unavailable) << done.error().message();
  EXPECT_LT(Clock::now() - begin, 5s);
  EXPECT_EQ(origin_->state(), Origin::State::down);
}

TEST_F(NbdOriginTest, a_stalled_server_is_given_up_after_the_time_out) {
  serve({"pattern", "1M"});
  ASSERT_TRUE(open(400ms));
  server_->freeze();
  std::vector<std::byte> buffer(65536);
  const auto begin = Clock::now();
  const auto done = read(0, buffer);
  const auto took = Clock::now() - begin;
  server_->thaw();
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::unavailable);
  EXPECT_NE(done.error().message().find("no answer for 0.400 s"), std::string::npos)
      << done.error().message();
  EXPECT_GE(took, 390ms);
  EXPECT_LT(took, 3s);
  EXPECT_EQ(origin_->state(), Origin::State::down);
}

TEST_F(NbdOriginTest, a_stalled_server_fails_open_after_the_time_out) {
  serve({"pattern", "1M"});
  server_->freeze();
  const auto begin = Clock::now();
  const auto opened = open(300ms);
  server_->thaw();
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::unavailable);
  EXPECT_LT(Clock::now() - begin, 3s);
}

TEST_F(NbdOriginTest, an_idle_connection_outlives_the_time_out) {
  serve({"pattern", "1M"});
  ASSERT_TRUE(open(200ms));
  let_pass(500ms);
  std::vector<std::byte> buffer(4096);
  EXPECT_TRUE(read(0, buffer));
}

TEST_F(NbdOriginTest, close_ends_reads_under_way_at_once) {
  serve({"--filter=delay", "pattern", "1M", "rdelay=30"});
  ASSERT_TRUE(open(60s));
  std::vector<std::byte> buffer(65536);
  auto reader = [&]() { return origin_->read(0, buffer); };
  Task<Result<OriginBytes>> reading;
  run_on(*reactor_, [&] {
    reading = reader();
    return pause(100ms);
  });
  const auto begin = Clock::now();
  run_on(*reactor_, [this] { return origin_->close(); });
  EXPECT_LT(Clock::now() - begin, 2s);
  ASSERT_TRUE(reading.done());
  EXPECT_EQ(reading.take().error().code, Errc::unavailable);
  EXPECT_EQ(origin_->state(), Origin::State::closed);
}

TEST_F(NbdOriginTest, close_ends_an_open_under_way_at_once) {
  serve({"pattern", "1M"});
  server_->freeze();
  origin_ = std::make_unique<NbdOrigin>(*reactor_, server_->uri(), 60s, 4);
  Task<Result<>> opening;
  run_on(*reactor_, [&] {
    opening = origin_->open();
    return pause(100ms);
  });
  const auto begin = Clock::now();
  run_on(*reactor_, [this] { return origin_->close(); });
  EXPECT_LT(Clock::now() - begin, 2s);
  ASSERT_TRUE(opening.done());
  EXPECT_FALSE(opening.take());
  server_->thaw();
}

}  // namespace
}  // namespace clonedev
