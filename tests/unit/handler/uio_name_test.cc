#include "uio_name.h"

#include <gtest/gtest.h>

namespace clonedev {
namespace {

TEST(UioName, name_is_the_third_field) {
  const auto who = parse_uio_name("tcm-user/3/vm1/clone/origin=/a/b;dest=/c");
  ASSERT_TRUE(who.has_value());
  EXPECT_EQ(who->hba, "user_3");
  EXPECT_EQ(who->name, "vm1");
}

TEST(UioName, anything_else_is_refused) {
  for (const char* text : {"", "igb", "tcm-user", "tcm-user/0", "tcm-user/0/vm1", "tcm-user//x/y",
                           "tcm-user/0//clone/x"}) {
    EXPECT_FALSE(parse_uio_name(text).has_value()) << text;
  }
}

TEST(UioName, missing_device_is_a_sentence) {
  const auto who = read_uio_name("/nonexistent", "uio7");
  ASSERT_FALSE(who.has_value());
  EXPECT_EQ(who.error().code, Errc::unavailable);
  EXPECT_NE(who.error().message().find("/nonexistent/class/uio/uio7/name"), std::string::npos);
}

}  // namespace
}  // namespace clonedev
