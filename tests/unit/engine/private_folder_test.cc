#include "engine/private_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace clonedev {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kSomebody = 65534;

class PrivateFolderTest : public testing::Test {
 protected:
  PrivateFolderTest() {
    std::string name = SCRATCH_DIR "/private-folder-XXXXXX";
    root_ = ::mkdtemp(name.data());
    folder_ = root_ / "run" / "live";
  }
  ~PrivateFolderTest() override { fs::remove_all(root_); }

  static unsigned mode_of(const fs::path& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    return info.st_mode & 07777U;
  }
  void refused(const std::string& words) const {
    const auto made = make_private_folder(folder_, "folder");
    ASSERT_FALSE(made) << "was believed; expected: " << words;
    EXPECT_NE(made.error().message().find(words), std::string::npos) << made.error().message();
  }

  fs::path root_;
  fs::path folder_;
};

TEST_F(PrivateFolderTest, is_made_for_its_user_alone_whatever_the_umask) {
  const mode_t before = ::umask(0);
  const auto made = make_private_folder(folder_, "folder");
  ::umask(before);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(mode_of(folder_), 0700U);
  EXPECT_EQ(mode_of(folder_.parent_path()), 0755U);
  EXPECT_TRUE(make_private_folder(folder_, "folder")) << "and found again";
}

TEST_F(PrivateFolderTest, is_not_one_that_others_may_write) {
  fs::create_directories(folder_);
  ::chmod(folder_.c_str(), 0770);
  refused("others may write it");
  ::chmod(folder_.c_str(), 01777);
  refused("others may write it");
}

TEST_F(PrivateFolderTest, is_not_one_that_a_user_has_made_before) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a folder away";
  fs::create_directories(folder_);
  EXPECT_EQ(::chown(folder_.c_str(), kSomebody, kSomebody), 0);
  refused("belongs to uid 65534");
}

TEST_F(PrivateFolderTest, is_not_behind_a_link_that_a_user_has_made) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a link away";
  fs::create_directories(folder_.parent_path());
  fs::create_directories(root_ / "mine");
  fs::create_directory_symlink(root_ / "mine", folder_);
  EXPECT_TRUE(make_private_folder(folder_, "folder")) << "the admin may put it elsewhere";
  EXPECT_EQ(::lchown(folder_.c_str(), kSomebody, kSomebody), 0);
  refused("belongs to uid 65534");
}

TEST_F(PrivateFolderTest, is_not_a_file) {
  fs::create_directories(folder_.parent_path());
  EXPECT_EQ(::mknod(folder_.c_str(), S_IFREG | 0600, 0), 0);
  refused("is not a folder");
}

}  // namespace
}  // namespace clonedev
