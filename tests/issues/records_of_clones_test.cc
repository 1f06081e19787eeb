// The record of a clone was written to NAME.new first, which is the record of a clone of that name:
// opening vm1 took vm1.new's away, and with it what keeps vm1.new from being made afresh over a
// mount point without its file system. And a name whose escapes are too long for a file name could
// not be opened: "is the disk full?"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "clonedev/clone_device.h"
#include "engine/known_clones.h"

namespace clonedev {
namespace {

namespace fs = std::filesystem;

class RecordsOfClones : public testing::Test {
 protected:
  RecordsOfClones() {
    std::string name = "/dev/shm/records-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    std::ofstream(folder_ / "origin") << std::string(8192, 'o');
  }
  ~RecordsOfClones() override { fs::remove_all(folder_); }

  Result<> open_and_close(const std::string& name, const std::string& files) {
    OpenRequest request;
    request.name = name;
    request.size_bytes = 8192;
    request.options.origin = folder_ / "origin";
    request.options.dest = folder_ / (files + ".img");
    request.options.meta = folder_ / (files + ".meta");
    request.options.hydration = false;
    request.site = {folder_ / "state", folder_ / "run", false};
    auto opened = CloneDevice::open(request);
    if (!opened) return fail(opened.error());
    return (*opened)->close();
  }

  fs::path folder_;
};

TEST_F(RecordsOfClones, do_not_meet_the_one_that_is_being_written_of_another) {
  const KnownClones known(folder_ / "state");
  for (const char* name : {"vm1.new", "vm1", "vm1.new.new"}) {
    ASSERT_TRUE(known.remember(name, {"uuid", "/d", "/m", 7})) << name;
  }
  ASSERT_TRUE(known.remember("vm1", {"uuid", "/d", "/m", 8}));
  for (const char* name : {"vm1.new", "vm1", "vm1.new.new"}) {
    const auto found = known.find(name);
    ASSERT_TRUE(found) << found.error().message();
    EXPECT_TRUE(found->has_value()) << name << " has been forgotten";
  }
}

TEST_F(RecordsOfClones, keep_a_clone_from_being_made_afresh_after_its_neighbour_was_opened) {
  ASSERT_TRUE(open_and_close("vm1.new", "a"));
  ASSERT_TRUE(open_and_close("vm1", "b"));
  // Its file system is not mounted.
  fs::remove(folder_ / "a.img");
  fs::remove(folder_ / "a.meta");
  const auto again = open_and_close("vm1.new", "a");
  ASSERT_FALSE(again) << "a new clone in silence: all that was written is gone from sight";
  EXPECT_NE(again.error().message().find("is known, but"), std::string::npos)
      << again.error().message();
}

TEST_F(RecordsOfClones, of_long_names_in_any_script_are_kept) {
  std::string katakana;
  for (int i = 0; i < 42; ++i) katakana += "ヴ";  // 126 bytes, 378 when escaped.
  const std::string another = katakana.substr(0, 123) + "ア";
  for (const std::string& name : {katakana, another}) {
    const auto made = open_and_close(name, name == katakana ? "a" : "b");
    ASSERT_TRUE(made) << made.error().message();
  }
  const KnownClones known(folder_ / "state");
  EXPECT_NE(known.path(katakana), known.path(another));
  for (const std::string& name : {katakana, another}) {
    const auto found = known.find(name);
    ASSERT_TRUE(found && found->has_value());
    EXPECT_EQ((*found)->dest, folder_ / (name == katakana ? "a.img" : "b.img"));
  }
}

}  // namespace
}  // namespace clonedev
