#include "scsi/data.h"

#include <gtest/gtest.h>

#include <array>

namespace clonedev::scsi {
namespace {

using Eight = std::array<std::uint8_t, 8>;

TEST(ScsiData, answer_ends_at_the_allocation_length_and_clears_the_rest) {
  Eight first;
  Eight second;
  first.fill(0xdd);
  second.fill(0xdd);
  const std::array<iovec, 2> pieces{iovec{first.data(), 8}, iovec{second.data(), 8}};
  const std::array<std::uint8_t, 20> page{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  answer(page, 10, pieces);
  EXPECT_EQ(first, (Eight{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(second, (Eight{9, 10}));
  EXPECT_EQ(pieces[0].iov_len, 8U);
}

TEST(ScsiData, pieces_are_one_stretch_of_bytes) {
  Eight first{0, 1, 2, 3, 4, 5, 6, 7};
  Eight second{8, 9, 10, 11, 12, 13, 14, 15};
  const std::array<iovec, 3> pieces{iovec{first.data(), 8}, iovec{nullptr, 0},
                                    iovec{second.data(), 8}};
  EXPECT_EQ(length_of(pieces), 16U);
  EXPECT_EQ(gather(pieces, 100).size(), 16U);
  std::array<std::byte, 6> middle{};
  copy_from(pieces, 5, middle);
  for (std::size_t i = 0; i < middle.size(); ++i) {
    EXPECT_EQ(std::to_integer<std::size_t>(middle[i]), 5 + i);
  }
  EXPECT_EQ(first_difference(pieces, 5, middle), middle.size());
  middle[4] ^= std::byte{1};
  EXPECT_EQ(first_difference(pieces, 5, middle), 4U);
  std::array<std::byte, 2> bits{std::byte{0xf0}, std::byte{0xf0}};
  or_from(pieces, 7, bits);
  EXPECT_EQ(bits[0], std::byte{0xf7});
  EXPECT_EQ(bits[1], std::byte{0xf8});
}

}  // namespace
}  // namespace clonedev::scsi
