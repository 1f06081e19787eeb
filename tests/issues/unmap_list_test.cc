// tcmu-runner 1.5.4 believes the length that an UNMAP's parameter list says it has: ranges behind
// the end of the list were read from its heap, and discarded.
#include "scsi/unmap_list.h"

#include <gtest/gtest.h>

#include <vector>

namespace clonedev::scsi {
namespace {

using Bytes = std::vector<std::uint8_t>;

// A list of `length` bytes that says that `said` bytes of ranges are in it.
tl::expected<std::vector<Blocks>, Sense> parse(std::uint8_t length, std::uint8_t said) {
  Bytes list(length);
  if (length > 3) list[3] = said;
  for (std::size_t at = 16; at + 4 <= list.size(); at += 16) list[at + 3] = 1;
  return parse_unmap_list(list, Disk{.blocks = 1000});
}

TEST(UnmapList, a_list_that_says_more_than_it_holds_is_refused_as_a_whole) {
  EXPECT_EQ(parse(8, 16).error(), kParameterListLengthError);
  EXPECT_EQ(parse(24, 32).error(), kParameterListLengthError);
  EXPECT_EQ(parse(23, 16).error(), kParameterListLengthError);
}

TEST(UnmapList, a_list_that_holds_what_it_says_is_taken) {
  EXPECT_EQ(parse(24, 16)->size(), 1U);
  EXPECT_EQ(parse(24, 31)->size(), 1U) << "a part of a range does not count";
  EXPECT_EQ(parse(40, 16)->size(), 1U);
  EXPECT_EQ(parse(72, 64)->size(), 4U);
}

TEST(UnmapList, a_list_without_a_head_asks_for_nothing_or_is_refused) {
  EXPECT_TRUE(parse(0, 0)->empty());
  EXPECT_EQ(parse(7, 64).error(), kParameterListLengthError);
}

}  // namespace
}  // namespace clonedev::scsi
