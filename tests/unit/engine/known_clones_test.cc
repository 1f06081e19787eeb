// What the machine remembers of its clones, on real files.

#include "engine/known_clones.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace clonedev {
namespace {

namespace fs = std::filesystem;

class KnownClonesTest : public testing::Test {
 protected:
  KnownClonesTest() {
    std::string name = SCRATCH_DIR "/known-clones-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~KnownClonesTest() override { fs::remove_all(folder_); }

  KnownClones clones() const { return KnownClones(folder_ / "state"); }

  fs::path folder_;
  const KnownClone clone_{"0123456789abcdef", "/srv/vm1.img", "/srv/vm1.meta"};
};

TEST_F(KnownClonesTest, knows_nothing_at_first_and_makes_nothing_by_looking) {
  const auto found = clones().find("vm1");
  ASSERT_TRUE(found);
  EXPECT_FALSE(found->has_value());
  EXPECT_FALSE(fs::exists(folder_ / "state"));
}

TEST_F(KnownClonesTest, remembers_across_objects_and_each_name_apart) {
  ASSERT_TRUE(clones().remember("vm1", clone_));
  KnownClone other = clone_;
  other.dest = "/srv/with = and % and blank";
  ASSERT_TRUE(clones().remember("vm2", other));
  const auto found = clones().find("vm1");
  ASSERT_TRUE(found && found->has_value());
  EXPECT_EQ((*found)->uuid, clone_.uuid);
  EXPECT_EQ((*found)->dest, clone_.dest);
  EXPECT_EQ((*found)->meta, clone_.meta);
  EXPECT_EQ((*clones().find("vm2"))->dest, other.dest);
  EXPECT_FALSE((*clones().find("vm3")).has_value());
}

TEST_F(KnownClonesTest, is_replaced_whole_and_leaves_nothing_beside_it) {
  ASSERT_TRUE(clones().remember("vm1", clone_));
  KnownClone moved = clone_;
  moved.dest = "/srv2/vm1.img";
  ASSERT_TRUE(clones().remember("vm1", moved));
  EXPECT_EQ((*clones().find("vm1"))->dest, moved.dest);
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& file : fs::directory_iterator(folder_ / "state/known")) ++files;
  EXPECT_EQ(files, 1u);
}

TEST_F(KnownClonesTest, the_same_record_again_writes_nothing) {
  ASSERT_TRUE(clones().remember("vm1", clone_));
  struct stat before {};
  ASSERT_EQ(::stat(clones().path("vm1").c_str(), &before), 0);
  ASSERT_TRUE(clones().remember("vm1", clone_));
  struct stat after {};
  ASSERT_EQ(::stat(clones().path("vm1").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(KnownClonesTest, no_name_leaves_the_folder_or_meets_another) {
  const std::string names[] = {"a/b", "a%2Fb", "..", ".", "%2E", "../known/a", "a b", "a%20b", "ä"};
  std::set<std::string> paths;
  for (const std::string& name : names) {
    const fs::path path = clones().path(name);
    EXPECT_EQ(path.parent_path(), folder_ / "state/known") << name;
    EXPECT_NE(path.filename(), ".");
    EXPECT_NE(path.filename(), "..");
    EXPECT_TRUE(paths.insert(path).second) << name << " shares " << path;
    KnownClone clone = clone_;
    clone.uuid = name;
    ASSERT_TRUE(clones().remember(name, clone)) << name;
  }
  for (const std::string& name : names) {
    const auto found = clones().find(name);
    ASSERT_TRUE(found && found->has_value()) << name;
    EXPECT_EQ((*found)->uuid, name);
  }
}

TEST_F(KnownClonesTest, forgets_when_its_file_is_removed) {
  ASSERT_TRUE(clones().remember("vm1", clone_));
  fs::remove(clones().path("vm1"));
  EXPECT_FALSE((*clones().find("vm1")).has_value());
}

TEST_F(KnownClonesTest, says_so_when_its_folder_is_a_file) {
  fs::create_directories(folder_ / "state");
  std::ofstream(folder_ / "state/known") << "a file";
  const auto kept = clones().remember("vm1", clone_);
  ASSERT_FALSE(kept);
  EXPECT_NE(kept.error().message().find("is not a folder"), std::string::npos);
  EXPECT_NE(kept.error().message().find(folder_ / "state/known"), std::string::npos);
}

// An empty or torn record must not read as a clone without a destination, nor as no clone.
TEST_F(KnownClonesTest, refuses_a_record_that_is_not_whole) {
  fs::create_directories(folder_ / "state/known");
  for (const char* text : {"", "uuid=1\n", "uuid=1\ndest=/d\n", "garbage"}) {
    std::ofstream(clones().path("vm1"), std::ios::trunc) << text;
    const auto found = clones().find("vm1");
    EXPECT_FALSE(found) << "taken for a record: " << text;
  }
}

}  // namespace
}  // namespace clonedev
