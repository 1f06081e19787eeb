#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "clonedev/options.h"

namespace clonedev {
namespace {

class ConfigFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = ::testing::TempDir() + "conf-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    folder_ = path;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name + ".conf"; }

  void write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    std::ofstream(path(name)) << text;
    ASSERT_EQ(::chmod(path(name).c_str(), mode), 0);
  }

  Result<Options> load(const std::string& config) const { return load_config(config, folder_); }

  void expect_refused(const std::string& config, Errc code, const std::string& word) const {
    const auto options = load(config);
    ASSERT_FALSE(options) << config;
    EXPECT_EQ(options.error().code, make_error_code(code)) << options.error().message();
    EXPECT_NE(options.error().message().find(word), std::string::npos) << options.error().message();
  }

  std::string folder_;
};

TEST_F(ConfigFile, reads_lines_with_comments_and_without_decoding) {
  write("vm1",
        "# the golden image\n"
        "\n"
        "  origin = nbds://user:sesame@[::1]:10809/a%20b,c;d\r\n"
        "dest=/dev/vg/vm 1  \n"
        "\tregion_size\t=\t64k\n"
        "no_hydration");
  const auto options = load("clone/conf=vm1");
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->origin, "nbds://user:sesame@[::1]:10809/a%20b,c;d");
  EXPECT_EQ(options->dest, "/dev/vg/vm 1");
  EXPECT_EQ(options->region_size, 65536U);
  EXPECT_FALSE(options->hydration);
  EXPECT_EQ(options->conf, "vm1");
  EXPECT_TRUE(options->warnings.empty());
}

TEST_F(ConfigFile, takes_eight_alternates_in_their_order_and_not_nine) {
  std::string text = "origin=/a\ndest=/b\n";
  std::vector<std::string> expected;
  for (int i = 1; i <= 8; ++i) {
    expected.push_back("nbd://server" + std::to_string(i));
    text += "alternate = " + expected.back() + "\n";
  }
  write("vm1", text);
  const auto options = load("clone/conf=vm1");
  ASSERT_TRUE(options) << options.error().message();
  EXPECT_EQ(options->alternates, expected);
  write("vm1", text + "alternate = nbd://server9\n");
  expect_refused("clone/conf=vm1", Errc::bad_config, "line 11: alternate: is given more than 8");
}

TEST_F(ConfigFile, keeps_the_credentials_of_an_alternate_and_no_token_for_it_alone) {
  write("vm1", "origin=/a\ndest=/b\nalternate=nbd://alice@server\n", 0644);
  expect_refused("clone/conf=vm1", Errc::refused, "chmod it to 0600");
  write("vm1", "origin=/a\ndest=/b\nalternate=https://server/x\norigin_token=t\n");
  expect_refused("clone/conf=vm1", Errc::bad_config, "origin_token");
}

TEST_F(ConfigFile, gives_way_to_live_keys_of_the_string) {
  write("vm1", "origin=/a\ndest=/b\nhydration=off\nhydration_threshold=9\n");
  const auto options = load("clone/conf=vm1;hydration=on;origin_timeout=3s");
  ASSERT_TRUE(options);
  EXPECT_TRUE(options->hydration);
  EXPECT_EQ(options->hydration_threshold, 9U);
  EXPECT_EQ(options->origin_timeout_ms, 3000U);
}

TEST_F(ConfigFile, is_judged_together_with_the_string) {
  write("vm1", "origin=/a\ndest=/b\nmin_rate=2m\n");
  EXPECT_TRUE(load("clone/conf=vm1"));
  expect_refused("clone/conf=vm1;rate_limit=1m", Errc::bad_config, "min_rate");
  EXPECT_TRUE(load("clone/conf=vm1;rate_limit=1m;min_rate=auto"));
}

TEST_F(ConfigFile, is_not_looked_for_when_the_string_carries_everything) {
  EXPECT_TRUE(load("clone/origin=/a;dest=/b"));
}

TEST_F(ConfigFile, is_refused_by_name_and_line) {
  write("typo", "origin=/a\n\ndset=/b\n");
  expect_refused("clone/conf=typo", Errc::bad_config, "typo.conf line 3: \"dset\": unknown key");
  write("value", "origin=/a\ndest=/b\nhydration=maybe\n");
  expect_refused("clone/conf=value", Errc::bad_config, "line 3: hydration: \"maybe\"");
  write("twice", "origin=/a\ndest=/b\norigin=/c\n");
  expect_refused("clone/conf=twice", Errc::bad_config, "line 3: origin: is given twice");
  write("chain", "origin=/a\ndest=/b\nconf=other\n");
  expect_refused("clone/conf=chain", Errc::bad_config, "line 3: conf");
  write("empty", "# nothing\n");
  expect_refused("clone/conf=empty", Errc::bad_config, "origin: is missing");
  write("same", "origin=/a\ndest=/a\n");
  expect_refused("clone/conf=same", Errc::bad_config, "same path");
  write("zero", std::string("origin=/a\ndest=/b\0c\n", 20));
  expect_refused("clone/conf=zero", Errc::bad_config, "control character");
}

TEST_F(ConfigFile, never_shows_a_secret) {
  for (const std::string line : {"origin=xyz://user:sesame@h", "origin nbds://user:sesame@h",
                                 "origin = http://u:sesame@h:port/x", "nbds://user:sesame@h"}) {
    write("vm1", line + "\ndest=/b\n");
    const auto options = load("clone/conf=vm1");
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().message().find("sesame"), std::string::npos)
        << options.error().message();
  }
}

TEST_F(ConfigFile, must_be_in_the_hands_of_the_daemon_alone) {
  write("open", "origin=/a\ndest=/b\n", 0622);
  expect_refused("clone/conf=open", Errc::refused, "others may write it");
  write("group", "origin=/a\ndest=/b\n", 0620);
  expect_refused("clone/conf=group", Errc::refused, "others may write it");
  write("plain", "origin=/a\ndest=/b\n", 0644);
  EXPECT_TRUE(load("clone/conf=plain"));
  write("secret", "origin=nbds://u:p@h\ndest=/b\n", 0640);
  expect_refused("clone/conf=secret", Errc::refused, "chmod it to 0600");
}

TEST_F(ConfigFile, must_belong_to_the_daemon) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root to give a file away";
  }
  write("alien", "origin=/a\ndest=/b\n");
  ASSERT_EQ(::chown(path("alien").c_str(), 12345, 0), 0);
  expect_refused("clone/conf=alien", Errc::refused, "uid 12345");
}

TEST_F(ConfigFile, must_be_a_regular_file_of_bounded_size) {
  expect_refused("clone/conf=missing", Errc::unavailable, "missing.conf");
  ASSERT_EQ(::mkdir(path("folder").c_str(), 0700), 0);
  expect_refused("clone/conf=folder", Errc::refused, "not a regular file");
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  expect_refused("clone/conf=fifo", Errc::refused, "not a regular file");
  write("real", "origin=/a\ndest=/b\n");
  ASSERT_EQ(::symlink(path("real").c_str(), path("link").c_str()), 0);
  expect_refused("clone/conf=link", Errc::refused, "symbolic link");
  write("large", std::string(65537, '#'));
  expect_refused("clone/conf=large", Errc::bad_config, "larger than");
}

TEST_F(ConfigFile, stays_inside_its_folder) {
  write("vm1", "origin=/a\ndest=/b\n");
  for (const std::string name : {"../vm1", "%2E%2E%2Fvm1", ".vm1", "a/vm1", "%2Fetc%2Fpasswd"}) {
    expect_refused("clone/conf=" + name, Errc::bad_config, "conf");
  }
}

}  // namespace
}  // namespace clonedev
