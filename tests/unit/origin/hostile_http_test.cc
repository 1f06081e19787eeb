// The HTTP origin against a server that means no good.
#include <gtest/gtest.h>

#include <atomic>

#include "http_origin_bed.h"
#include "support/hostile_http_server.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;
using Peer = HostileHttpPeer;
using Request = HostileHttpPeer::Request;

class HostileHttp : public HttpOriginBed {
 protected:
  // Answers the first request (the one of open) properly and every other with `answer`; then hangs
  // up.
  HostileHttpServer::Script afterwards(std::function<void(Peer&, const Request&)> answer) {
    return [this, answer = std::move(answer)](Peer& peer) {
      Request request;
      while (peer.next(request)) {
        if (requests_++ == 0) {
          peer.answer(request, disk_, etag_);
        } else {
          answer(peer, request);
          return;
        }
      }
    };
  }
  // What a read of 4096 bytes in the middle of a larger buffer comes to; nothing around it changes.
  std::string read_between_guards() {
    std::string buffer(3 * 4096, '#');
    const auto middle = std::as_writable_bytes(std::span(buffer)).subspan(4096, 4096);
    const auto done = read(4096, middle);
    EXPECT_EQ(buffer.substr(0, 4096), std::string(4096, '#'));
    EXPECT_EQ(buffer.substr(8192), std::string(4096, '#'));
    return done ? "data" : done.error().message();
  }
  Task<Result<OriginBytes>> read_and_close(std::span<std::byte> room,
                                           const std::atomic<bool>& under_way) {
    auto reading = origin_->read(4096, room);
    while (!under_way) co_await reactor_->sleep_for(1ms);
    co_await origin_->close();
    co_return co_await reading;
  }
  static std::string partial(const std::string& range, const std::string& body,
                             const std::string& more = {}) {
    return "HTTP/1.1 206 x\r\nContent-Range: bytes " + range + "\r\nETag: \"a\"\r\n" + more +
           "\r\n" + body;
  }

  const std::string disk_ = pattern(64 << 10);
  const std::string etag_ = "ETag: \"a\"\r\n";
  std::atomic<unsigned> requests_ = 0;
};

TEST_F(HostileHttp, nothing_but_exactly_the_range_counts_as_data) {
  const std::string body = disk_.substr(4096, 4096);
  const struct {
    const char* what;
    std::string answer;
    const char* word;
  } cases[] = {
      {"no range at all", "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + body,
       "range requests"},
      {"another range", partial("0-4095/65536", body), "does not fit"},
      {"a longer range", partial("4096-8192/65536", body + "x"), "does not fit"},
      {"no total", partial("4096-8191/*", body), "does not fit"},
      {"two ranges", partial("4096-8191/65536", body, "Content-Range: bytes 0-4095/65536\r\n"),
       "does not fit"},
      {"encoded", partial("4096-8191/65536", body, "Content-Encoding: gzip\r\n"), "does not fit"},
      {"another size", partial("4096-8191/65537", body), "has changed"},
      {"too long by its length",
       partial("4096-8191/65536", body + body, "Content-Length: 8192\r\n"), "does not fit"},
      {"too long until the end", partial("4096-8191/65536", body + body), "does not fit"},
      {"too short until the end", partial("4096-8191/65536", body.substr(1)), "does not fit"},
      {"broken off", partial("4096-8191/65536", body.substr(100), "Content-Length: 4096\r\n"),
       "broke off"},
      {"garbage", std::string(100, '\x80') + "\r\n\r\n", "origin "},
      {"an old protocol", body, "origin "},
      {"nothing", "", "origin "},
      {"412", "HTTP/1.1 412 x\r\nContent-Length: 0\r\n\r\n", "has changed"},
      {"404", "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", "(404)"},
      {"503", "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", "(503)"},
      {"500", "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", "(500)"},
      {"a garbage status", "HTTP/1.1 999999 x\r\n\r\n", "origin "},
  };
  for (const auto& at : cases) {
    requests_ = 0;
    HostileHttpServer server(
        afterwards([&at](Peer& peer, const Request&) { peer.send(at.answer); }));
    const auto opened = open(server.url());
    ASSERT_TRUE(opened) << opened.error().message();
    const std::string text = read_between_guards();
    EXPECT_TRUE(contains(text, at.word) && text != "data") << at.what << ": " << text;
    close();
  }
}

TEST_F(HostileHttp, another_etag_is_other_content) {
  HostileHttpServer server(afterwards([this](Peer& peer, const Request& request) {
    peer.answer(request, disk_, "ETag: \"b\"\r\n");
  }));
  ASSERT_TRUE(open(server.url()));
  EXPECT_TRUE(contains(read_between_guards(), "has changed"));
  EXPECT_EQ(origin_->state(), Origin::State::down);
}

TEST_F(HostileHttp, an_error_of_the_server_for_some_bytes_leaves_the_rest_readable) {
  HostileHttpServer server([this](Peer& peer) {
    for (Request request; peer.next(request);) {
      if (request.first == 4096) {
        peer.send("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n");
      } else {
        peer.answer(request, disk_, etag_);
      }
    }
  });
  ASSERT_TRUE(open(server.url()));
  std::string buffer(4096, '#');
  const auto done = read(4096, std::as_writable_bytes(std::span(buffer)));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::origin_read);
  EXPECT_EQ(origin_->state(), Origin::State::connected);
  EXPECT_EQ(content(8192, 16), disk_.substr(8192, 16));
}

TEST_F(HostileHttp, a_connection_that_breaks_once_is_no_outage) {
  std::atomic<bool> broken = false;
  HostileHttpServer server([&](Peer& peer) {
    for (Request request; peer.next(request);) {
      if (request.length() > 1 && !broken.exchange(true)) {
        peer.send(partial("4096-8191/65536", "half", "Content-Length: 4096\r\n"));
        return;
      }
      peer.answer(request, disk_, etag_);
    }
  });
  ASSERT_TRUE(open(server.url()));
  EXPECT_EQ(content(4096, 4096), disk_.substr(4096, 4096));
  EXPECT_EQ(origin_->state(), Origin::State::connected);
  close();
}

TEST_F(HostileHttp, a_location_that_expires_is_asked_for_again) {
  std::atomic<unsigned> given = 0;
  HostileHttpServer server([&](Peer& peer) {
    for (Request request; peer.next(request);) {
      if (request.has("GET /disk ")) {
        peer.send("HTTP/1.1 307 x\r\nContent-Length: 0\r\nLocation: /signed?" +
                  std::to_string(++given) + "\r\n\r\n");
      } else if (request.has("GET /signed?" + std::to_string(given) + " ") &&
                 !(given == 1 && request.length() > 1)) {
        peer.answer(request, disk_, etag_);
      } else {
        peer.send("HTTP/1.1 403 x\r\nContent-Length: 7\r\n\r\nexpired");
      }
    }
  });
  ASSERT_TRUE(open(server.url()));
  EXPECT_EQ(content(0, 4096), disk_.substr(0, 4096));
  EXPECT_EQ(content(4096, 4096), disk_.substr(4096, 4096));
  EXPECT_EQ(given, 2u);
  close();
}

TEST_F(HostileHttp, headers_without_end_come_to_an_end) {
  HostileHttpServer server(afterwards([](Peer& peer, const Request&) {
    const std::string line = "X-More: " + std::string(1000, 'x') + "\r\n";
    for (bool there = peer.send("HTTP/1.1 206 x\r\n"); there;) there = peer.send(line);
  }));
  ASSERT_TRUE(open(server.url()));
  EXPECT_NE(read_between_guards(), "data");
  close();
}

TEST_F(HostileHttp, a_body_without_end_is_not_read_to_its_end) {
  HostileHttpServer server([](Peer& peer) {
    Request request;
    if (!peer.next(request)) return;
    for (bool there = peer.send("HTTP/1.1 200 OK\r\n\r\n"); there;) {
      there = peer.send(std::string(65536, 'x'));
    }
  });
  const auto opened = open(server.url());
  ASSERT_FALSE(opened);
  EXPECT_TRUE(contains(opened.error().message(), "range requests")) << opened.error().message();
  close();
}

TEST_F(HostileHttp, silence_is_given_up_after_the_patience) {
  HostileHttpServer server(afterwards([](Peer& peer, const Request&) { peer.wait_for_hangup(); }));
  ASSERT_TRUE(open(server.url(), 200ms));
  EXPECT_TRUE(contains(read_between_guards(), "no answer for 0.200 s"));
  EXPECT_EQ(origin_->state(), Origin::State::down);
  close();
}

TEST_F(HostileHttp, close_ends_reads_under_way_and_never_touches_their_buffers_again) {
  std::atomic<bool> half_sent = false;
  HostileHttpServer server(afterwards([&](Peer& peer, const Request&) {
    peer.send(partial("4096-8191/65536", disk_.substr(4096, 1000), "Content-Length: 4096\r\n"));
    half_sent = true;
    peer.wait_for_hangup();
  }));
  ASSERT_TRUE(open(server.url()));
  auto buffer = std::make_unique<std::string>(4096, '#');
  const auto room = std::as_writable_bytes(std::span(*buffer));
  const auto done = run_on(*reactor_, [&] { return read_and_close(room, half_sent); });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::closed) << done.error().message();
  buffer.reset();  // ASan would tell of a later touch.
  close();
}

TEST_F(HostileHttp, a_server_that_asks_for_a_rest_gets_it) {
  HostileHttpServer server([this](Peer& peer) {
    for (Request request; peer.next(request);) {
      if (requests_++ == 0) {
        peer.send("HTTP/1.1 503 x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
      } else {
        peer.answer(request, disk_, etag_);
      }
    }
  });
  const auto busy = open(server.url());
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code, Errc::unavailable);
  const auto began = Scheduler::Clock::now();
  ASSERT_TRUE(open(server.url()));
  EXPECT_GE(Scheduler::Clock::now() - began, 700ms);
  close();
}

}  // namespace
}  // namespace clonedev
