// delete --purge with real metadata: only files that are certainly this clone's own go.

#include <sys/stat.h>

#include "io/exclusive_file.h"
#include "metadata_tools_fixture.h"

namespace clonedev {
namespace {

namespace fs = std::filesystem;

class ClonectlPurgeTest : public MetadataToolsTest {
 protected:
  void SetUp() override {
    MetadataToolsTest::SetUp();
    ::setenv("TCMU_CLONE_STATE_DIR", folder_.c_str(), 1);
    start_daemon([](const std::string& request) { return ok(request == "list" ? "[]" : "null"); });
    spill(file("helper"),
          "#!/bin/sh\nwhile read -r line; do echo '{\"ok\":true,\"result\":{\"why\":null,"
          "\"removed\":true,\"saved\":true}}'; done\n");
    ::chmod(file("helper").c_str(), 0755);
    spill(file("dest"), "data");
    const std::string identity = ExclusiveFile::open_to_read(file("dest"), "dest")->identity();
    change([&](Superblock& s) { s.destination_identity = identity; });
    spill(record(), "uuid=" + id_text(superblock().uuid) + "\ndest=" + file("dest") +
                        "\nmeta=" + meta() + "\nsequence=1\n");
  }
  void TearDown() override {
    ::unsetenv("TCMU_CLONE_STATE_DIR");
    MetadataToolsTest::TearDown();
  }

  std::string record() const { return folder_ / "known/vm1"; }
  // Both files are there yet, and why is said.
  void expect_kept(const std::string& why) const {
    const Outcome outcome = run({"delete", "vm1", "--purge"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_NE(outcome.out.find(why), std::string::npos) << outcome.out;
    EXPECT_EQ(outcome.out.find("removed: "), std::string::npos) << outcome.out;
    EXPECT_TRUE(fs::exists(file("dest")));
  }
};

TEST_F(ClonectlPurgeTest, removes_what_is_its_own) {
  const Outcome outcome = run({"delete", "vm1", "--purge"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "removed: destination " + file("dest") + "\nremoved: metadata " + meta() + "\n");
  for (const std::string& path : {file("dest"), meta(), record()}) EXPECT_FALSE(fs::exists(path));
}

TEST_F(ClonectlPurgeTest, keeps_the_metadata_and_the_disk_of_another_clone) {
  std::string text = slurp(record());
  text[text.find('=') + 1] ^= 1;  // Of the known UUID.
  spill(record(), text);
  expect_kept("is of another clone");
  EXPECT_TRUE(fs::exists(meta()));
}

TEST_F(ClonectlPurgeTest, keeps_what_another_machine_has_attached) {
  change([](Superblock& s) { s.clean = false, s.machine_id = Id{1, 2, 3}; });
  expect_kept("another machine");
  EXPECT_TRUE(fs::exists(meta()));
}

TEST_F(ClonectlPurgeTest, keeps_a_disk_that_took_the_destinations_place) {
  change([](Superblock& s) { s.destination_identity = "wwn:naa.5000c500a1b2c3d4"; });
  expect_kept("not the one the clone was made with");
  EXPECT_TRUE(fs::exists(meta()));
}

TEST_F(ClonectlPurgeTest, keeps_a_disk_of_which_nothing_says_whose_it_is) {
  fs::remove(meta());
  expect_kept("its metadata are gone");
}

TEST_F(ClonectlPurgeTest, keeps_what_are_no_metadata) {
  spill(meta(), "a letter");
  expect_kept("too short");
  EXPECT_EQ(slurp(meta()), "a letter");
}

TEST_F(ClonectlPurgeTest, keeps_a_link_and_what_it_leads_to) {
  fs::rename(file("dest"), file("elsewhere"));
  fs::create_symlink(file("elsewhere"), file("dest"));
  const Outcome outcome = run({"delete", "vm1", "--purge"});
  EXPECT_NE(outcome.out.find("a symbolic link"), std::string::npos) << outcome.out << outcome.err;
  EXPECT_TRUE(fs::exists(file("elsewhere")));
}

TEST_F(ClonectlPurgeTest, a_second_delete_finds_what_was_busy_at_the_first) {
  {
    const auto busy =
        ExclusiveFile::open(file("dest"), "destination", std::chrono::milliseconds(0));
    ASSERT_TRUE(busy);
    EXPECT_EQ(run({"delete", "vm1", "--purge"}).exit_code, 1);
    EXPECT_TRUE(fs::exists(record()));
  }
  EXPECT_EQ(run({"delete", "vm1", "--purge"}).exit_code, 0);
  EXPECT_FALSE(fs::exists(file("dest")));
  EXPECT_FALSE(fs::exists(record()));
}

}  // namespace
}  // namespace clonedev
