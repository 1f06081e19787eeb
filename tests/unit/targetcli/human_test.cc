#include "human.h"

#include <gtest/gtest.h>

#include <limits>

namespace clonectl {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST(Human, writes_bytes_with_one_digit) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes((1ULL << 20) - 1), "1.0 MiB");
  EXPECT_EQ(human_bytes(3ULL << 39), "1.5 TiB");
  EXPECT_EQ(human_bytes(kMax), "16.0 EiB");
}

TEST(Human, shows_no_control_character) {
  EXPECT_EQ(printable("a\x1b[2J\nb\x7f"), "a?[2J?b?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "?31m")
      << "CSI as one character of UTF-8";
  EXPECT_EQ(printable("gr\xc3\xb6\xc3\x9f"
                      "er \xc2\xa7"),
            "gr\xc3\xb6\xc3\x9f"
            "er \xc2\xa7");
}

TEST(Human, says_100_percent_only_for_all_of_it) {
  EXPECT_EQ(human_percent(0, 10), "0.0 %");
  EXPECT_EQ(human_percent(1, 3), "33.3 %");
  EXPECT_EQ(human_percent(999999, 1000000), "99.9 %");
  EXPECT_EQ(human_percent(kMax - 1, kMax), "99.9 %");
  EXPECT_EQ(human_percent(10, 10), "100.0 %");
  EXPECT_EQ(human_percent(0, 0), "100.0 %");
}

TEST(Human, writes_durations_in_two_units) {
  EXPECT_EQ(human_duration(0), "0 s");
  EXPECT_EQ(human_duration(185), "3 min 5 s");
  EXPECT_EQ(human_duration(7800), "2 h 10 min");
  EXPECT_EQ(human_duration(4 * 86400 + 3 * 3600), "4 d 3 h");
}

TEST(Human, fills_the_bar_only_at_the_end) {
  EXPECT_EQ(progress_bar(0, 100), "[....................]");
  EXPECT_EQ(progress_bar(99, 100), "[###################.]");
  EXPECT_EQ(progress_bar(100, 100), "[####################]");
}

TEST(Human, aligns_by_characters_and_leaves_no_blanks_at_the_end) {
  EXPECT_EQ(aligned({{"a", "b"}, {"\xc3\xa9\xc3\xa9\xc3\xa9", ""}, {"long", "c"}}),
            "a     b\n\xc3\xa9\xc3\xa9\xc3\xa9\nlong  c\n");
}

}  // namespace
}  // namespace clonectl
