// What fuzzing the configuration found: values that were accepted and then not opened, and one that
// was shown.
#include <gtest/gtest.h>

#include "clonedev/options.h"
#include "core/config_parser.h"
#include "origin/origin_factory.h"

namespace clonedev {
namespace {

TEST(ConfigValues, what_is_accepted_as_an_origin_is_opened_as_one) {
  const auto reactor = Reactor::create();
  ASSERT_TRUE(reactor);
  for (const std::string origin : {"NBDS://h/x", "Nbd+Unix:///?socket=/s", "FILE:///a", "//a//b"}) {
    const auto options =
        parse_conf_text("origin = " + origin + "\ndest = /b\n", "vm1.conf", "clone/conf=vm1");
    ASSERT_TRUE(options) << origin;
    EXPECT_TRUE(origin_factory(options->origin, **reactor, {})) << options->origin;
  }
}

TEST(ConfigValues, a_url_that_cannot_be_asked_for_is_refused_at_once) {
  for (const std::string origin : {"http://et=/s&b", "http://h[/x", "https://a b/x"}) {
    const auto options = parse_conf_text("origin = " + origin + "\ndest = /b\n", "vm1.conf",
                                         "clone/conf=vm1");
    ASSERT_FALSE(options) << origin;
    EXPECT_NE(options.error().message().find("write "), std::string::npos)
        << options.error().message();
  }
}

TEST(ConfigValues, credentials_in_the_wrong_place_are_not_shown) {
  for (const std::string line : {"dest = nbds://user:sesame@h", "hydration = nbd://user:sesame@h",
                                 "region_size = https://user:sesame@h/4k",
                                 "init = nbd%3A//sesame@h", "dest = nbd%3A//sesame%40h"}) {
    const auto options =
        parse_conf_text("origin = /a\n" + line + "\n", "vm1.conf", "clone/conf=vm1");
    ASSERT_FALSE(options) << line;
    EXPECT_EQ(options.error().message().find("sesame"), std::string::npos)
        << options.error().message();
    EXPECT_NE(options.error().message().find("line 2"), std::string::npos);
  }
}

// It would count as a path, and be shown in the log and in `clonectl list`.
TEST(ConfigValues, a_password_with_a_slash_is_refused_and_not_shown) {
  const auto parsed = [](const std::string& origin) {
    return parse_conf_text("origin = " + origin + "\ndest = /b\n", "vm1.conf", "clone/conf=vm1");
  };
  for (const std::string origin :
       {"nbds://user:ses/ame@h/x", "nbd://h:http", "nbd://h:65536", "nbd://[::1]:x"}) {
    const auto options = parsed(origin);
    ASSERT_FALSE(options) << origin;
    EXPECT_EQ(options.error().message().find("ame@"), std::string::npos);
  }
  for (const std::string origin :
       {"nbd://h", "nbd://h:10809/pool/vol@snap", "nbd://h:", "nbd://[::1]", "nbd://[::1]:10809/",
        "nbds://user:ses%2Fame@h:1?tls-verify-peer=1", "nbds://user:sesame@[fe80::1]/x",
        "nbd+unix:///?socket=/s:x"}) {
    EXPECT_TRUE(parsed(origin)) << origin;
  }
}

}  // namespace
}  // namespace clonedev
