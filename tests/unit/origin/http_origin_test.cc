// The HTTP origin against a real nginx.
#include "origin/http_origin.h"

#include <gtest/gtest.h>

#include "http_origin_bed.h"
#include "origin/origin_link.h"
#include "support/nginx_server.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;

class HttpOriginTest : public HttpOriginBed {
 protected:
  void SetUp() override {
    if (!NginxServer::available()) GTEST_SKIP() << "nginx is not installed";
    disk_ = pattern(5 << 20);
    server_.write_file("disk", disk_);
  }
  void expect_whole() {
    const Extent ranges[] = {{0, 1}, {1, 7}, {4096, 4 << 20}, {disk_.size() - 3, 3}};
    for (const Extent& range : ranges) {
      EXPECT_TRUE(content(range.offset, range.length) == disk_.substr(range.offset, range.length))
          << content(range.offset, range.length).substr(0, 200);
    }
  }
  NginxServer server_;
  std::string disk_;
};

TEST_F(HttpOriginTest, reads_whatever_the_alignment_on_connections_that_are_kept) {
  server_.start();
  const auto opened = open(server_.url("disk"));
  ASSERT_TRUE(opened) << opened.error().message();
  EXPECT_EQ(origin_->size(), disk_.size());
  expect_whole();
  for (std::size_t i = 0; i < 50; ++i) ASSERT_EQ(content(i * 4096, 64), disk_.substr(i * 4096, 64));
  close();
  EXPECT_TRUE(server_.comes_to_log(" 206 ", 58)) << "one for each MiB";
  EXPECT_EQ(server_.logged("HEAD"), 0u);
}

TEST_F(HttpOriginTest, reads_over_tls_and_http_2_from_whom_its_authority_vouches_for) {
  server_.start();
  const auto unknown = open(server_.tls_url("disk"));
  ASSERT_FALSE(unknown);
  EXPECT_TRUE(contains(unknown.error().message(), "certificate")) << unknown.error().message();
  ca_file_ = server_.ca_file();
  const auto opened = open(server_.tls_url("disk"));
  ASSERT_TRUE(opened) << opened.error().message();
  expect_whole();
  close();
  EXPECT_TRUE(server_.comes_to_log("HTTP/2.0 206", 8));
}

TEST_F(HttpOriginTest, a_certificate_for_another_name_is_refused) {
  server_.start();
  ca_file_ = server_.ca_file();
  std::string url = server_.tls_url("disk");
  url.replace(url.find("localhost"), 9, "127.0.0.1");
  const auto opened = open(url);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, Errc::unavailable) << opened.error().message();
}

TEST_F(HttpOriginTest, is_bound_to_the_etag_and_says_if_match) {
  server_.start();
  ASSERT_TRUE(open(server_.url("disk")));
  EXPECT_TRUE(contains(identity(), "http:size=5242880;etag=\"")) << identity();
  EXPECT_EQ(content(16, 16), disk_.substr(16, 16));
  EXPECT_TRUE(server_.comes_to_log("Range=bytes=16-31 Auth=- Match=\\x22", 1));
}

TEST_F(HttpOriginTest, without_etag_it_is_bound_to_time_and_samples) {
  server_.start("etag off;");
  ASSERT_TRUE(open(server_.url("disk")));
  const std::string before = identity();
  EXPECT_TRUE(contains(before, ";mtime=") && contains(before, ";samples=")) << before;
  EXPECT_GE(server_.logged("Since=Sat") + server_.logged("Since=Sun") +
                server_.logged("Since=Mon") + server_.logged("Since=Tue") +
                server_.logged("Since=Wed") + server_.logged("Since=Thu") +
                server_.logged("Since=Fri"),
            16u);
}

TEST_F(HttpOriginTest, content_that_changes_takes_it_down_before_a_byte_is_believed) {
  server_.start();
  ASSERT_TRUE(open(server_.url("disk")));
  ASSERT_EQ(content(0, 16), disk_.substr(0, 16));
  server_.write_file("disk", disk_ + "0123456789abcdef");
  const std::string text = content(16, 16);
  EXPECT_TRUE(contains(text, "content has changed")) << text;
  EXPECT_EQ(origin_->state(), Origin::State::down);
}

TEST_F(HttpOriginTest, follows_a_redirect_and_goes_to_its_end_directly_from_then_on) {
  server_.start("location /moved { return 302 /disk?signature=sesame; }");
  const auto opened = open(server_.url("moved"));
  ASSERT_TRUE(opened) << opened.error().message();
  expect_whole();
  EXPECT_TRUE(server_.comes_to_log("GET /moved", 1));
  EXPECT_TRUE(server_.comes_to_log("GET /disk?signature=sesame", 8));
}

TEST_F(HttpOriginTest, redirects_in_a_circle_and_to_other_protocols_end_in_a_sentence) {
  server_.start(
      "location /circle { return 302 /circle; } location /ftp { return 302 ftp://127.0.0.1/x; }");
  const auto circle = open(server_.url("circle"));
  ASSERT_FALSE(circle);
  EXPECT_TRUE(contains(circle.error().message(), "redirects")) << circle.error().message();
  const auto ftp = open(server_.url("ftp"));
  ASSERT_FALSE(ftp);
  EXPECT_EQ(ftp.error().code, Errc::unavailable) << ftp.error().message();
}

TEST_F(HttpOriginTest, https_is_not_redirected_to_http) {
  server_.start("location /down { return 302 {url}disk; }");
  ca_file_ = server_.ca_file();
  EXPECT_FALSE(open(server_.tls_url("down")));
  EXPECT_EQ(server_.logged("GET /disk"), 0u);
}

TEST_F(HttpOriginTest, credentials_stay_with_the_server_they_are_for) {
  server_.start(
      "location /elsewhere { return 302 {tls}disk; } location /here { return 302 /disk; }");
  ca_file_ = server_.ca_file();
  const std::string url = server_.url("elsewhere");
  ASSERT_TRUE(open("http://alice:sesame@" + url.substr(7)));
  ASSERT_EQ(content(0, 16), disk_.substr(0, 16));
  EXPECT_TRUE(server_.comes_to_log("GET /elsewhere HTTP/1.1 302 ", 1));
  EXPECT_TRUE(server_.comes_to_log("GET /disk HTTP/2.0 206", 2));
  EXPECT_TRUE(server_.comes_to_log("Auth=Basic", 1));
  token_ = "abc.def";
  ASSERT_TRUE(open(url));
  ASSERT_EQ(content(0, 16), disk_.substr(0, 16));
  EXPECT_TRUE(server_.comes_to_log("Auth=Bearer abc.def", 1));
  ASSERT_TRUE(open(server_.url("here")));
  ASSERT_EQ(content(0, 16), disk_.substr(0, 16));
  EXPECT_TRUE(server_.comes_to_log("Auth=Bearer abc.def", 4));
}

// Another port is another server, and so would be another scheme.
TEST_F(HttpOriginTest, the_token_goes_to_the_origins_own_server_and_to_no_other_alternate) {
  server_.write_file("mirror", disk_);
  server_.start();
  OriginSettings settings;
  settings.token = "abc.def";
  settings.ca_file = server_.ca_file();
  const std::vector<std::string> alternates = {server_.url("mirror"), server_.tls_url("mirror")};
  const auto make = [this](std::string_view spec, const OriginSettings& its) {
    return origin_factory(spec, *reactor_, its);
  };
  const auto candidates = origin_candidates(server_.url("disk"), alternates, make, settings);
  ASSERT_TRUE(candidates);
  for (const OriginCandidate& candidate : *candidates) {
    const auto origin = candidate.factory();
    EXPECT_TRUE(run_on(*reactor_, [&] { return origin->open(); })) << candidate.name;
    run_on(*reactor_, [&] { return origin->close(); });
  }
  EXPECT_TRUE(server_.comes_to_log("GET /disk", 1));
  EXPECT_TRUE(server_.comes_to_log("GET /mirror", 2));
  EXPECT_TRUE(server_.comes_to_log("GET /mirror HTTP/2.0 206", 1)) << "the one by TLS";
  EXPECT_TRUE(server_.comes_to_log("Auth=Bearer abc.def", 2));
  EXPECT_TRUE(server_.comes_to_log("Auth=-", 1));
}

TEST_F(HttpOriginTest, a_user_is_let_in_and_a_stranger_is_told_what_to_do) {
  server_.start("auth_basic lab; auth_basic_user_file " + server_.file("users").string() + ";");
  server_.write_file("users", "alice:{PLAIN}sesame\n");
  const std::string address = server_.url("disk").substr(7);
  const auto stranger = open("http://" + address);
  ASSERT_FALSE(stranger);
  EXPECT_EQ(stranger.error().code, Errc::refused);
  EXPECT_TRUE(contains(stranger.error().message(), "origin_token")) << stranger.error().message();
  const auto wrong = open("http://alice:wrongword@" + address);
  ASSERT_FALSE(wrong);
  EXPECT_FALSE(contains(wrong.error().message(), "wrongword")) << wrong.error().message();
  ASSERT_TRUE(open("http://alice:sesame@" + address));
  expect_whole();
}

TEST_F(HttpOriginTest, each_refusal_is_a_sentence_without_the_query) {
  server_.start(
      "location /a { return 403; } location /b { return 410; } location /c { return 429; } "
      "location /d { return 503; } location /e { return 500; } location /f { max_ranges 0; }");
  server_.write_file("f", disk_);
  server_.write_file("zero", "");
  struct Case {
    const char* path;
    Errc code;
    const char* word;
  };
  for (const Case& at : {Case{"none", Errc::refused, "no such object (404)"},
                         {"a", Errc::refused, "(403)"},
                         {"b", Errc::refused, "(410)"},
                         {"c", Errc::unavailable, "(429)"},
                         {"d", Errc::unavailable, "(503)"},
                         {"e", Errc::unavailable, "(500)"},
                         {"f", Errc::refused, "does not support range requests"},
                         {"zero", Errc::refused, "is empty"}}) {
    const auto opened = open(server_.url(at.path) + "?X-Signature=sesame");
    ASSERT_FALSE(opened) << at.path;
    EXPECT_EQ(opened.error().code, at.code) << opened.error().message();
    EXPECT_TRUE(contains(opened.error().message(), at.word)) << opened.error().message();
    EXPECT_FALSE(contains(opened.error().message(), "sesame")) << opened.error().message();
  }
}

TEST_F(HttpOriginTest, a_server_that_is_gone_or_unknown_is_unavailable) {
  server_.start();
  ASSERT_TRUE(open(server_.url("disk")));
  ASSERT_EQ(content(0, 16), disk_.substr(0, 16));
  server_.kill();
  const std::string text = content(16, 16);
  EXPECT_EQ(origin_->state(), Origin::State::down) << text;
  EXPECT_FALSE(open(server_.url("disk")));
  const auto unknown = open("http://no-such-host.invalid/disk");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Errc::unavailable);
  EXPECT_TRUE(contains(unknown.error().message(), "no-such-host.invalid"))
      << unknown.error().message();
}

TEST_F(HttpOriginTest, the_link_refuses_a_server_that_comes_back_with_other_content) {
  server_.start();
  const OriginFactory factory = *origin_factory(server_.url("disk"), *reactor_, {});
  OriginLink link("http", factory, std::nullopt,
                  {.first_pause = 10ms, .longest_pause = 20ms, .known_down_after = 50ms});
  const auto soon = [] { return Scheduler::Clock::now() + 10s; };
  ASSERT_TRUE(run_on(*reactor_, [&] { return link.open(soon()); }));
  std::vector<std::byte> buffer(4096);
  const std::span<std::byte> room(buffer);
  ASSERT_TRUE(run_on(*reactor_, [&] { return link.read(0, room, soon()); }));
  disk_[100] = 'x';
  std::filesystem::remove(server_.file("disk"));
  server_.write_file("disk", disk_ + disk_.substr(0, 16));
  const auto read = run_on(*reactor_, [&] { return link.read(0, room, soon()); });
  ASSERT_FALSE(read);
  EXPECT_TRUE(contains(link.last_error(), "origin changed")) << link.last_error();
  run_on(*reactor_, [&] { return link.close(); });
}

}  // namespace
}  // namespace clonedev
