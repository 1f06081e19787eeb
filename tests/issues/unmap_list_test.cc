// tcmu-runner 1.5.4 believes the length that an UNMAP's parameter list says it has: ranges behind
// the end of the list were read from its heap, and discarded.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "scsi_intercept.h"

namespace clonedev::scsi {
namespace {

using Bytes = std::vector<std::uint8_t>;

// An UNMAP whose list has `length` bytes and says that `said` bytes of ranges are in it.
int handle(std::uint8_t length, std::uint8_t said, std::size_t first_piece = 4096) {
  Bytes cdb{0x42, 0, 0, 0, 0, 0, 0, 0, length, 0};
  Bytes list(length);
  if (length > 3) list[3] = said;
  const std::size_t cut = std::min<std::size_t>(first_piece, length);
  std::array<iovec, 2> pieces{iovec{list.data(), cut}, iovec{list.data() + cut, length - cut}};
  tcmulib_cmd cmd{};
  cmd.cdb = cdb.data();
  cmd.iovec = pieces.data();
  cmd.iov_cnt = pieces.size();
  return Intercept(nullptr, "", [] { return ModeParameters{}; }).handle(cmd);
}

TEST(UnmapList, a_list_that_says_more_than_it_holds_is_refused_as_a_whole) {
  EXPECT_EQ(handle(8, 16), TCMU_STS_INVALID_PARAM_LIST_LEN);
  EXPECT_EQ(handle(24, 32), TCMU_STS_INVALID_PARAM_LIST_LEN);
  EXPECT_EQ(handle(23, 16), TCMU_STS_INVALID_PARAM_LIST_LEN);
  EXPECT_EQ(handle(24, 32, 3), TCMU_STS_INVALID_PARAM_LIST_LEN) << "in pieces";
}

TEST(UnmapList, a_list_that_holds_what_it_says_is_the_runners) {
  EXPECT_EQ(handle(24, 16), TCMU_STS_NOT_HANDLED);
  EXPECT_EQ(handle(24, 31), TCMU_STS_NOT_HANDLED) << "a part of a range does not count";
  EXPECT_EQ(handle(40, 16, 1), TCMU_STS_NOT_HANDLED);
  EXPECT_EQ(handle(72, 64), TCMU_STS_NOT_HANDLED);
}

TEST(UnmapList, a_list_without_a_head_is_the_runners) {
  EXPECT_EQ(handle(0, 0), TCMU_STS_NOT_HANDLED);
  EXPECT_EQ(handle(7, 64), TCMU_STS_NOT_HANDLED);
}

}  // namespace
}  // namespace clonedev::scsi
