#include <gtest/gtest.h>
#include <sys/stat.h>

#include "clonectl_fixture.h"
#include "lun_config.h"

namespace {

namespace fs = std::filesystem;
using clonedev::status_json;

class ClonectlSetTest : public ClonectlTest {
 protected:
  void SetUp() override {
    ClonectlTest::SetUp();
    start_daemon([](const std::string&) { return ok(status_json(example_status("vm1"))); });
    make_helper(R"({"ok":true,"result":{"saved":true}})");
    make_lun("user_0", "vm1", "clone/origin=/a;dest=/b");
  }

  fs::path lun(const std::string& hba, const std::string& name) const {
    return folder_ / "config/target/core" / hba / name;
  }
  void make_lun(const std::string& hba, const std::string& name, const std::string& config) const {
    spill(lun(hba, name) / "attrib/dev_config", config + "\n");
  }
  void make_helper(const std::string& reply) const {
    spill(folder_ / "helper", "#!/bin/sh\nread -r line && echo \"$line\" >>" +
                                  (folder_ / "saved").string() + " && echo '" + reply + "'\n");
    ::chmod((folder_ / "helper").c_str(), 0755);
  }
  // A plain file keeps the tail of a longer old text, unlike configfs: only the head counts.
  std::string written(const std::string& expected) const {
    return slurp(lun("user_0", "vm1") / "attrib/dev_config").substr(0, expected.size());
  }
  std::string saved() const { return slurp(folder_ / "saved"); }
};

TEST_F(ClonectlSetTest, appends_a_key_and_saves) {
  const Outcome outcome = run({"set", "vm1", "hydration_threshold=8", "origin_timeout=5s"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(slurp(lun("user_0", "vm1") / "attrib/dev_config"),
            "clone/origin=/a;dest=/b;hydration_threshold=8;origin_timeout=5s");
  EXPECT_EQ(saved(), "{\"do\":\"commit\",\"name\":\"vm1\"}\n");
  EXPECT_EQ(daemon_->requests(), std::vector<std::string>{"status vm1"});
}

TEST_F(ClonectlSetTest, replaces_a_key_in_its_place) {
  make_lun("user_0", "vm1", "clone/origin=/a;hydration_threshold=800;dest=/b");
  EXPECT_EQ(run({"set", "vm1", "hydration_threshold=900"}).exit_code, 0);
  const std::string expected = "clone/origin=/a;hydration_threshold=900;dest=/b";
  EXPECT_EQ(written(expected), expected);
}

TEST_F(ClonectlSetTest, works_beside_conf_and_finds_the_lun_on_any_hba) {
  make_lun("user_0", "other", "clone/origin=/x;dest=/y");
  make_lun("user_7", "vm2", "clone/conf=vm2");
  make_lun("user_3", "vm2", "rbd/pool/image");
  make_lun("fileio_1", "vm2", "clone/conf=not-tcmu");
  EXPECT_EQ(run({"set", "vm2", "hydration=off"}).exit_code, 0);
  EXPECT_EQ(slurp(lun("user_7", "vm2") / "attrib/dev_config"), "clone/conf=vm2;hydration=off");
}

TEST_F(ClonectlSetTest, reads_the_info_file_where_the_attribute_is_empty) {
  spill(lun("user_0", "vm1") / "attrib/dev_config", "\n");
  spill(lun("user_0", "vm1") / "info",
        "Status: ACTIVATED  Max Queue Depth: 128  SectorSize: 512  HwMaxSectors: 2048\n"
        "        Config: clone/origin=/i;dest=/b Size: 1048576 MaxDataAreaMB: NULL\n");
  EXPECT_EQ(run({"set", "vm1", "hydration=on"}).exit_code, 0);
  const std::string expected = "clone/origin=/i;dest=/b;hydration=on";
  EXPECT_EQ(written(expected), expected);
}

TEST_F(ClonectlSetTest, takes_live_keys_only) {
  for (const std::string setting :
       {"origin=/x", "dest=/x", "meta=/x", "conf=x", "region_size=8k", "write_cache=off",
        "init=overwrite", "nonsense=1", "hydration=maybe", "hydration", "no_hydration",
        "hydration=", "=on", "hydration=on;dest=/x", "tcmur_cmd_time_out=3",
        "hydration_batch_size=0", "origin_timeout=1h"}) {
    const Outcome outcome = run({"set", "vm1", setting});
    EXPECT_EQ(outcome.exit_code, 2) << setting;
    EXPECT_TRUE(outcome.err.starts_with("clonectl: ")) << outcome.err;
  }
  EXPECT_EQ(run({"set", "vm1", "hydration=on", "hydration=off"}).exit_code, 2);
  EXPECT_EQ(slurp(lun("user_0", "vm1") / "attrib/dev_config"), "clone/origin=/a;dest=/b\n");
  EXPECT_EQ(saved(), "");
}

TEST_F(ClonectlSetTest, writes_nothing_that_the_kernel_would_cut) {
  const std::string full = "clone/origin=/a;dest=/" + std::string(220, 'b');
  make_lun("user_0", "vm1", full);
  const Outcome outcome = run({"set", "vm1", "hydration_batch_size=1234"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("conf=NAME"), std::string::npos) << outcome.err;
  EXPECT_EQ(slurp(lun("user_0", "vm1") / "attrib/dev_config"), full + "\n");
}

TEST_F(ClonectlSetTest, touches_nothing_while_the_daemon_is_away) {
  daemon_.reset();
  EXPECT_EQ(run({"set", "vm1", "hydration=off"}).exit_code, 1);
  EXPECT_EQ(slurp(lun("user_0", "vm1") / "attrib/dev_config"), "clone/origin=/a;dest=/b\n");
}

TEST_F(ClonectlSetTest, refuses_names_that_are_missing_ambiguous_or_paths) {
  make_lun("user_1", "twin", "clone/origin=/a;dest=/b");
  make_lun("user_2", "twin", "clone/origin=/c;dest=/d");
  for (const std::string name : {"vm9", "twin", "../user_0/vm1", ".", ".."}) {
    EXPECT_EQ(run({"set", name, "hydration=off"}).exit_code, 1) << name;
  }
  EXPECT_EQ(saved(), "");
}

TEST_F(ClonectlSetTest, passes_on_why_the_kernel_refused) {
  fs::remove(lun("user_0", "vm1") / "attrib/dev_config");
  spill(lun("user_0", "vm1") / "info", "Config: clone/origin=/a;dest=/b Size: 1\n");
  fs::create_symlink("/dev/full", lun("user_0", "vm1") / "attrib/dev_config.new");
  fs::rename(lun("user_0", "vm1") / "attrib/dev_config.new",
             lun("user_0", "vm1") / "attrib/dev_config");
  const Outcome outcome = run({"set", "vm1", "hydration=off"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("refused the change"), std::string::npos) << outcome.err;
  EXPECT_EQ(saved(), "");
}

TEST_F(ClonectlSetTest, says_when_it_applied_but_could_not_save) {
  make_helper(R"({"ok":false,"error":"cannot save"})");
  Outcome outcome = run({"set", "vm1", "hydration=off"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("applied but not saved: cannot save"), std::string::npos)
      << outcome.err;
  EXPECT_EQ(slurp(lun("user_0", "vm1") / "attrib/dev_config"),
            "clone/origin=/a;dest=/b;hydration=off");
  fs::remove(folder_ / "helper");
  outcome = run({"set", "vm1", "hydration=off"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("applied but not saved"), std::string::npos) << outcome.err;
}

TEST(WithSetting, replaces_the_bare_word_too_and_keeps_one_place) {
  using clonectl::with_setting;
  EXPECT_EQ(with_setting("clone/no_hydration;origin=/a", "hydration", "on"),
            "clone/hydration=on;origin=/a");
  EXPECT_EQ(with_setting("clone/hydration=on;origin=/a;", "hydration", "off"),
            "clone/hydration=off;origin=/a");
  EXPECT_EQ(with_setting("clone/conf=x;hydration_threshold=3", "hydration", "off"),
            "clone/conf=x;hydration_threshold=3;hydration=off");
  EXPECT_EQ(with_setting("clone/conf=x;tcmur_cmd_time_out=9", "hydration", "off"),
            "clone/conf=x;hydration=off;tcmur_cmd_time_out=9");
}

}  // namespace
