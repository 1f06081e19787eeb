#include <gtest/gtest.h>

#include <random>

#include "core/http_target.h"
#include "origin/http_head.h"
#include "origin/http_pin.h"

namespace clonedev {
namespace {

HttpHead head_of(std::initializer_list<std::string_view> lines) {
  HttpHead head;
  for (const std::string_view line : lines) EXPECT_TRUE(head.add_line(line));
  return head;
}

TEST(HttpContentRange, is_understood_in_its_three_forms) {
  const auto whole = parse_content_range("bytes 0-4095/1048576");
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->range, (Extent{0, 4096}));
  EXPECT_EQ(whole->total, 1048576u);
  const auto without_total = parse_content_range("bytes 4096-8191/*");
  ASSERT_TRUE(without_total);
  EXPECT_FALSE(without_total->total);
  const auto refused = parse_content_range(" BYTES */0 ");
  ASSERT_TRUE(refused);
  EXPECT_FALSE(refused->range);
  EXPECT_EQ(refused->total, 0u);
}

TEST(HttpContentRange, is_nothing_when_it_makes_no_sense) {
  for (const char* text :
       {"", "bytes", "bytes ", "bytes=0-1/2", "bytes 0-1", "bytes */*", "bytes 1-0/2",
        "bytes 0-2/2", "bytes -1/2", "bytes 0-/2", "bytes 0-1/", "bytes 0x0-0x1/2", "bytes 0-1/2,3",
        "bytes +0-1/2", "bytes 0-9223372036854775807/9223372036854775807",
        "bytes 0-0/9223372036854775808",
        "bytes 18446744073709551616-18446744073709551617/18446744073709551618", "items 0-1/2"}) {
    EXPECT_FALSE(parse_content_range(text)) << text;
  }
}

TEST(HttpContentRange, of_random_text_never_contradicts_itself) {
  std::minstd_rand random(1);
  const std::string letters = "bytes 0123456789-/* ,";
  for (int round = 0; round < 200'000; ++round) {
    std::string text = "bytes ";
    for (auto i = random() % 24; i > 0; --i) text += letters[random() % letters.size()];
    const auto found = parse_content_range(text);
    if (!found) continue;
    EXPECT_TRUE(found->range || found->total) << text;
    EXPECT_TRUE(!found->range || found->range->length > 0) << text;
    EXPECT_TRUE(!found->range || !found->total || found->range->end() <= *found->total) << text;
  }
}

TEST(HttpHead, holds_what_an_origin_needs_whatever_the_case) {
  const HttpHead head =
      head_of({"HTTP/1.1 206 Partial Content\r\n", "cONTENT-rANGE: bytes 0-0/9\r\n",
               "ETag:\"abc-1\"\r\n", "Last-Modified: Sat, 28 Nov 2026 20:00:00 GMT\r\n",
               "Content-Length: 1\r\n", "Retry-After: 7\r\n", "\r\n"});
  EXPECT_EQ(head.status(), 206);
  EXPECT_EQ(head.content_range()->total, 9u);
  EXPECT_EQ(head.strong_etag(), "\"abc-1\"");
  EXPECT_EQ(head.last_modified(), "Sat, 28 Nov 2026 20:00:00 GMT");
  EXPECT_EQ(head.content_length(), 1u);
  EXPECT_EQ(head.retry_after(), std::chrono::seconds(7));
  EXPECT_FALSE(head.encoded() || head.contradictory());
}

TEST(HttpHead, begins_anew_with_each_answer) {
  const HttpHead head =
      head_of({"HTTP/1.1 302 Found\r\n", "ETag: \"page\"\r\n", "\r\n", "HTTP/2 206 \r\n"});
  EXPECT_EQ(head.status(), 206);
  EXPECT_EQ(head.strong_etag(), "");
}

TEST(HttpHead, takes_no_weak_or_odd_etag) {
  for (const char* etag : {"W/\"a\"", "abc", "\"", "\"a\"b\"", "\"a b\"", "\"\x01\"", "\"\xff\""}) {
    EXPECT_EQ(head_of({"HTTP/1.1 200 OK", "ETag: " + std::string(etag)}).strong_etag(), "") << etag;
  }
}

TEST(HttpHead, notices_two_values_for_one_field) {
  EXPECT_TRUE(
      head_of({"HTTP/1.1 206 x", "Content-Range: bytes 0-0/9", "Content-Range: bytes 0-0/8"})
          .contradictory());
  EXPECT_FALSE(head_of({"HTTP/1.1 206 x", "ETag: \"a\"", "ETag: \"a\""}).contradictory());
}

TEST(HttpHead, has_an_end) {
  HttpHead head;
  const std::string line = "X-Filler: " + std::string(1000, 'x') + "\r\n";
  unsigned taken = 0;
  while (taken < 1000 && head.add_line(taken % 10 ? line : "HTTP/1.1 100 Continue\r\n")) ++taken;
  EXPECT_LT(taken, 100u);
}

TEST(HttpPin, believes_exactly_its_own_content) {
  const HttpPin pin{9, "\"a\"", ""};
  const auto difference = [&pin](std::string_view range, std::string_view etag) {
    return pin.difference(head_of({"HTTP/1.1 206 x", range, etag}));
  };
  EXPECT_EQ(difference("Content-Range: bytes 0-0/9", "ETag: \"a\""), "");
  EXPECT_NE(difference("Content-Range: bytes 0-0/8", "ETag: \"a\""), "");
  EXPECT_NE(difference("Content-Range: bytes 0-0/9", "ETag: \"b\""), "");
  EXPECT_NE(difference("Content-Range: bytes 0-0/9", "X-None: 1"), "");
  EXPECT_EQ(pin.precondition(), "If-Match: \"a\"");
  const HttpPin by_time{9, "", "Sat, 28 Nov 2026 20:00:00 GMT"};
  EXPECT_EQ(by_time.precondition(), "If-Unmodified-Since: Sat, 28 Nov 2026 20:00:00 GMT");
  EXPECT_NE(by_time.difference(head_of({"HTTP/1.1 206 x", "Content-Range: bytes 0-0/9"})), "");
}

TEST(HttpPin, an_answer_is_for_exactly_the_range_that_was_asked) {
  const auto answers = [](std::string_view status, std::string_view range, std::string_view more) {
    return answers_range(head_of({status, range, more}), {4, 2});
  };
  const char* ok = "HTTP/1.1 206 x";
  EXPECT_TRUE(answers(ok, "Content-Range: bytes 4-5/9", ""));
  EXPECT_TRUE(answers(ok, "Content-Range: bytes 4-5/9", "Content-Length: 2"));
  EXPECT_FALSE(answers("HTTP/1.1 200 x", "Content-Range: bytes 4-5/9", ""));
  EXPECT_FALSE(answers(ok, "Content-Range: bytes 3-5/9", ""));
  EXPECT_FALSE(answers(ok, "Content-Range: bytes 4-6/9", ""));
  EXPECT_FALSE(answers(ok, "Content-Range: bytes 4-5/*", ""));
  EXPECT_FALSE(answers(ok, "Content-Range: bytes 4-5/9", "Content-Length: 3"));
  EXPECT_FALSE(answers(ok, "Content-Range: bytes 4-5/9", "Content-Encoding: gzip"));
  EXPECT_FALSE(answers(ok, "", ""));
}

TEST(HttpTarget, takes_the_user_out_and_leaves_every_other_character) {
  const auto target = HttpTarget::parse(
      "https://al%40ice:se%2Fsame@h.example:8443/a/../b%2fc?X-Sig=a%2Bb+c/@x#part");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->url, "https://h.example:8443/a/../b%2fc?X-Sig=a%2Bb+c/@x");
  EXPECT_EQ(target->user, "al@ice");
  EXPECT_EQ(target->password, "se/same");
  EXPECT_TRUE(target->secure());
}

TEST(HttpTarget, knows_its_own_server) {
  const auto target = HttpTarget::parse("https://h.example/a");
  ASSERT_TRUE(target);
  EXPECT_TRUE(target->same_server("https://H.example:443/b?c"));
  EXPECT_FALSE(target->same_server("http://h.example/a"));
  EXPECT_FALSE(target->same_server("https://h.example:8443/a"));
  EXPECT_FALSE(target->same_server("https://x.h.example/a"));
  EXPECT_FALSE(target->same_server("garbage"));
  EXPECT_FALSE(HttpTarget::parse("http://[::1/x"));
}

}  // namespace
}  // namespace clonedev
