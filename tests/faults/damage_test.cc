// Damage of every part of the metadata and of the live map's head, while nobody looks: the clone is
// refused, or what it shows is right. Nothing in between.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>

#include "metadata/layout.h"
#include "support/clone_rig.h"
#include "support/shadow_disk.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

namespace fs = std::filesystem;

constexpr Extent kWholeDamaged{0, 64 * k4K};
constexpr std::size_t kSector = 512;

class Damage : public testing::Test {
 protected:
  Damage() : rig_(config()), shadow_(rig_.origin->content) {
    write({8 * k4K, 8 * k4K});
    EXPECT_TRUE(rig_.flush());
    write({32 * k4K, 8 * k4K});
    EXPECT_TRUE(rig_.flush());
    write({40 * k4K, 8 * k4K});  // Only the live map knows of these.
  }
  static RigConfig config() {
    RigConfig made;
    made.size = kWholeDamaged.length;
    return made;
  }
  void write(Extent extent) {
    const auto change = shadow_.begin(extent, shadow_.fresh_number());
    EXPECT_TRUE(rig_.write(extent.offset, shadow_.bytes(change.number, extent)));
    shadow_.done(change, false);
  }
  // Opens what is left after a kill, with one change.
  template <class Change>
  void expect_right_or_refused(Change change) {
    const auto next = rig_.kill();
    change(*next);
    ++tried_;
    const auto opened = next->open();
    if (!opened) {
      ++refused_;
      EXPECT_FALSE(opened.error().message().empty());
      EXPECT_EQ(opened.error().message().find('\n'), std::string::npos);
      return;
    }
    ShadowDisk shadow = shadow_;
    const auto found = next->read(kWholeDamaged);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_EQ(shadow.killed(*found), "");
  }
  static void scribble(CloneRig& rig, BlockDevice& disk, std::uint64_t offset) {
    Bytes bytes = pattern(offset, kSector);
    const iovec entry{bytes.data(), bytes.size()};
    const std::span<const iovec> list(&entry, 1);
    EXPECT_TRUE(rig.sim.run(disk.write(offset, list)));
  }
  static fs::path live_map(const CloneRig& rig) {
    return fs::directory_iterator(rig.live_dir())->path();
  }
  void say(const char* of) const {
    std::cout << of << ": " << tried_ << " damages, " << refused_ << " refused, the others right\n";
  }

  CloneRig rig_;
  ShadowDisk shadow_;
  std::uint64_t tried_ = 0;
  std::uint64_t refused_ = 0;
};

TEST_F(Damage, of_any_sector_of_the_metadata_is_refused_or_does_not_matter) {
  const std::uint64_t used =
      kFirstPageUnit * kUnitBytes + rig_.metadata().used_units() * kUnitBytes;
  for (std::uint64_t offset = 0; offset < used + k4K; offset += kSector) {
    SCOPED_TRACE(offset);
    expect_right_or_refused([&](CloneRig& rig) { scribble(rig, *rig.metadata_disk, offset); });
  }
  say("metadata");
  EXPECT_GE(refused_, 8u) << "nothing that matters was damaged";
}

TEST_F(Damage, of_the_head_or_the_length_of_the_live_map_is_refused) {
  const std::uint64_t size = fs::file_size(live_map(rig_));
  const auto resize_to = [&](std::uint64_t length) {
    expect_right_or_refused([&](CloneRig& rig) { fs::resize_file(live_map(rig), length); });
  };
  resize_to(size + k4K);
  EXPECT_EQ(refused_, 0u) << "a process that grows its disk may die when the file is longer";
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1}, size - 1}) {
    resize_to(length);
  }
  // Magic, version, uuid, number of pages and of blocks, kind of the page.
  for (const std::streamoff field : {0, 8, 16, 64, 72, 4096}) {
    expect_right_or_refused([&](CloneRig& rig) {
      std::fstream file(live_map(rig), std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(field);
      file.put(99);
    });
  }
  EXPECT_EQ(refused_ + 1, tried_);
  say("live map");
}

}  // namespace
}  // namespace clonedev
