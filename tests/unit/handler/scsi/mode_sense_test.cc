#include "scsi/mode_sense.h"

#include <gtest/gtest.h>

#include <array>

namespace clonedev::scsi {
namespace {

using ModeSenseCdb = std::array<std::uint8_t, 10>;

TEST(ModeSense, tells_of_write_protection_and_fua_in_both_forms) {
  const Disk disk{.write_cache = true, .write_protected = true};
  const std::vector<std::uint8_t> caching{0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0,
                                          0,    0,    0,    0, 0, 0, 0, 0, 0, 0};
  const ModeSenseCdb six{0x1a, 0, 0x08, 0, 0xff};
  std::vector<std::uint8_t> wanted{23, 0, 0x90, 0};
  wanted.insert(wanted.end(), caching.begin(), caching.end());
  EXPECT_EQ(mode_sense_page(six.data(), disk), wanted);
  const ModeSenseCdb ten{0x5a, 0, 0x08, 0};
  wanted = {0, 26, 0, 0x90, 0, 0, 0, 0};
  wanted.insert(wanted.end(), caching.begin(), caching.end());
  EXPECT_EQ(mode_sense_page(ten.data(), disk), wanted);
}

TEST(ModeSense, has_all_pages_their_masks_and_nothing_saved) {
  const ModeSenseCdb all{0x1a, 0, 0x3f, 0xff};
  const auto page = mode_sense_page(all.data(), {});
  ASSERT_EQ(page.size(), 4u + 12 + 20 + 12);
  EXPECT_EQ(page[0], page.size() - 1);
  EXPECT_EQ(page[2], 0x10) << "no protection";
  EXPECT_EQ(page[4], 0x01);
  EXPECT_EQ(page[16], 0x08);
  EXPECT_EQ(page[18], 0) << "no write cache";
  EXPECT_EQ(page[36], 0x0a);
  const ModeSenseCdb mask{0x1a, 0, 0x40 | 0x08, 0};
  EXPECT_EQ(mode_sense_page(mask.data(), {.write_cache = true})[6], 0) << "nothing can be changed";
  for (const ModeSenseCdb& none : {ModeSenseCdb{0x1a, 0, 0xc8, 0}, ModeSenseCdb{0x1a, 0, 0x08, 1},
                                   ModeSenseCdb{0x1a, 0, 0x1c, 0}, ModeSenseCdb{0x5a, 0, 0x05}}) {
    EXPECT_TRUE(mode_sense_page(none.data(), {}).empty());
  }
  EXPECT_EQ(mode_sense_refusal(ModeSenseCdb{0x1a, 0, 0xc8, 0}.data()),
            kSavingParametersNotSupported);
  EXPECT_EQ(mode_sense_refusal(ModeSenseCdb{0x1a, 0, 0x1c, 0}.data()), kInvalidFieldInCdb);
}

}  // namespace
}  // namespace clonedev::scsi
