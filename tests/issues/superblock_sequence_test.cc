// A superblock with the highest sequence of all was opened, and two commits later the sequence was
// 0 and nothing opened the metadata any more.
#include <gtest/gtest.h>

#include "metadata/disk_format.h"

namespace clonedev {
namespace {

Result<Superblock> unpacked(std::uint64_t sequence) {
  Superblock superblock;
  superblock.name = "vm1";
  superblock.sequence = sequence;
  superblock.size_bytes = 1 << 20;
  superblock.units = units_for(superblock.size_bytes);
  const auto unit = std::make_unique<Unit>();
  pack(superblock, *unit);
  return unpack_superblock(*unit, sequence % kSuperblockSlots);
}

TEST(SuperblockSequence, one_that_would_wrap_around_is_damage) {
  const auto highest = unpacked(~std::uint64_t{0});
  ASSERT_FALSE(highest);
  EXPECT_EQ(highest.error().code, Errc::damaged);
  EXPECT_NE(highest.error().message().find("sequence"), std::string::npos);
  EXPECT_FALSE(unpacked(kMaxSequence + 1));
  EXPECT_TRUE(unpacked(kMaxSequence));
  EXPECT_TRUE(unpacked(1));
}

}  // namespace
}  // namespace clonedev
