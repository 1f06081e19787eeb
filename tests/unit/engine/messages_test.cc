// dm-clone's messages as changes of the options.

#include "engine/messages.h"

#include <gtest/gtest.h>

namespace clonedev {
namespace {

TEST(Messages, switch_hydration) {
  Options options;
  options.hydration = false;
  const auto on = apply_message("enable_hydration", options);
  ASSERT_TRUE(on);
  EXPECT_TRUE(on->hydration);
  const auto off = apply_message("disable_hydration", *on);
  ASSERT_TRUE(off);
  EXPECT_FALSE(off->hydration);
}

// As in the kernel (strcasecmp).
TEST(Messages, have_names_in_any_case) {
  const auto off = apply_message("Disable_HYDRATION", {});
  ASSERT_TRUE(off);
  EXPECT_FALSE(off->hydration);
  const auto changed = apply_message("HYDRATION_BATCH_SIZE 5", {});
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->hydration_batch_size, 5u);
}

TEST(Messages, set_the_numbers_and_leave_the_rest_as_it_was) {
  Options options;
  options.origin = "/o";
  options.hydration_batch_size = 7;
  const auto changed = apply_message("hydration_threshold 12", options);
  ASSERT_TRUE(changed);
  EXPECT_EQ(changed->hydration_threshold, 12u);
  EXPECT_EQ(changed->hydration_batch_size, 7u);
  EXPECT_EQ(changed->origin, "/o");
  EXPECT_EQ(changed->first_static_difference(options), nullptr);
  const auto both = apply_message("hydration_batch_size 4294967295", *changed);
  ASSERT_TRUE(both);
  EXPECT_EQ(both->hydration_threshold, 12u);
  EXPECT_EQ(both->hydration_batch_size, 4294967295u);
}

TEST(Messages, refuse_numbers_that_are_none_and_name_the_message) {
  for (const char* number : {"", " ", " 0", " -1", " 1k", " 1 2", "  1", " 4294967296", " 0x10",
                             " 18446744073709551617", " +1", " 1\n"}) {
    for (const std::string name : {"hydration_threshold", "hydration_batch_size"}) {
      const auto refused = apply_message(name + number, {});
      ASSERT_FALSE(refused) << name << number;
      EXPECT_EQ(refused.error().code, Errc::bad_config);
      EXPECT_NE(refused.error().message().find(name), std::string::npos);
      EXPECT_NE(refused.error().message().find("1 or more"), std::string::npos);
    }
  }
}

TEST(Messages, tell_how_to_stop_hydration_instead_of_zero) {
  const auto refused = apply_message("hydration_threshold 0", {});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("disable_hydration"), std::string::npos);
}

TEST(Messages, refuse_unknown_words_with_the_list_of_those_that_exist) {
  for (const std::string& words : {std::string(), std::string("resize"),
                                   std::string(" enable_hydration"), std::string(10'000, 'x')}) {
    const auto refused = apply_message(words, {});
    ASSERT_FALSE(refused) << words.substr(0, 40);
    EXPECT_EQ(refused.error().code, Errc::bad_config);
    const std::string said = refused.error().message();
    EXPECT_NE(said.find("enable_hydration, disable_hydration"), std::string::npos) << said;
    EXPECT_LT(said.size(), 300u) << "a long message comes back shortened";
  }
}

// dm-clone would ignore it.
TEST(Messages, refuse_what_follows_a_message_without_a_number) {
  EXPECT_FALSE(apply_message("enable_hydration 1", {}));
  EXPECT_FALSE(apply_message("disable_hydration please", {}));
}

}  // namespace
}  // namespace clonedev
