#include "intercept.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace clonedev {
namespace {

TEST(Intercept, default_port_group_is_not_one_of_the_users_own) {
  std::string folder = ::testing::TempDir() + "aluaXXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  EXPECT_FALSE(has_own_port_groups(folder + "/missing"));
  std::filesystem::create_directory(folder + "/default_tg_pt_gp");
  EXPECT_FALSE(has_own_port_groups(folder));
  std::filesystem::create_directory(folder + "/ao");
  EXPECT_TRUE(has_own_port_groups(folder));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace clonedev
