// create and delete against a daemon and a helper that are played: what is asked of them, in which
// order, and what is left of files when one of them says no. The kernel's part is in
// tests/integration/create_*.sh.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "clonectl_fixture.h"
#include "conf_folder.h"

namespace {

namespace fs = std::filesystem;

class ClonectlCreateTest : public ClonectlTest {
 protected:
  void SetUp() override {
    ClonectlTest::SetUp();
    ::setenv("TCMU_CLONE_CONF_DIR", (folder_ / "clone.d").c_str(), 1);
    ::setenv("TCMU_CLONE_STATE_DIR", (folder_ / "state").c_str(), 1);
    start_daemon([](const std::string& request) {
      if (request == "list") return ok("[]");
      return request.starts_with("status") ? ok(R"({"reason":"the dog ate it"})") : ok("null");
    });
    make_helper("");
    spill(folder_ / "origin", std::string(70000, 'x'));
  }
  void TearDown() override {
    for (const char* name : {"TCMU_CLONE_CONF_DIR", "TCMU_CLONE_STATE_DIR"}) {
      ::unsetenv(name);
    }
    ClonectlTest::TearDown();
  }

  // Writes down each request, and fails the one that is named. What the daemon does while a LUN
  // opens, the helper plays, too.
  void make_helper(const std::string& fails_at, const std::string& last_words = "") const {
    const std::string folder = folder_.string();
    spill(
        folder_ / "helper",
        "#!/bin/sh\nwhile read -r line; do\n  echo \"$line\" >>" + folder + "/asked\n" +
            "  case $line in\n    *'\"do\":\"" + fails_at +
            "\"'*) echo '{\"ok\":false,\"error\":\"" + fails_at + " went wrong\"}'; continue;;\n" +
            "    *prepare*) [ -e " + folder + "/clone.d/vm1.conf ] || exit 9\n" +
            "      echo \"$line\" | sed 's/.*\"export\":/{\"ok\":true,\"result\":{\"export\":/; "
            "s/$/}/';;\n" +
            "    *backstore*) mkdir -p " + folder + "/state/known; echo d >" + folder +
            "/dest; echo m >" + folder + "/state/vm1.meta\n" +
            "      printf 'uuid=the-uuid\\ndest=" + folder + "/dest\\nmeta=" + folder +
            "/state/vm1.meta\\nsequence=1\\n' >" + folder +
            "/state/known/vm1; echo '{\"ok\":true}';;\n" +
            "    *) echo '{\"ok\":true,\"result\":{\"disk\":\"/dev/sdx\",\"lun\":3,\"saved\":true,"
            "\"removed\":true,\"why\":null}}';;\n  esac\ndone\necho end >>" +
            folder + "/asked\n" + last_words + "\n");
    ::chmod((folder_ / "helper").c_str(), 0755);
  }
  Outcome create(std::vector<std::string> more) const {
    std::vector<std::string> words = {"create",   "vm1",
                                      "--origin", (folder_ / "origin").string(),
                                      "--dest",   (folder_ / "dest").string()};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  std::string asked() const { return slurp(folder_ / "asked"); }
  // What create may have made.
  std::vector<std::string> files() const {
    std::vector<std::string> found;
    for (const char* name :
         {"clone.d/vm1.conf", "clone.d/vm1.export", "dest", "state/vm1.meta", "state/known/vm1"}) {
      if (fs::exists(folder_ / name)) found.emplace_back(name);
    }
    return found;
  }
};

TEST_F(ClonectlCreateTest, goes_step_by_step_and_the_serial_number_is_the_clones_uuid) {
  const Outcome outcome = create({"--loopback", "--set", "region_size=8k"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("/dev/sdx"), std::string::npos) << outcome.out;
  EXPECT_EQ(asked(),
            "{\"do\":\"prepare\",\"name\":\"vm1\",\"export\":{\"fabric\":\"loopback\"}}\n"
            "{\"do\":\"backstore\",\"name\":\"vm1\",\"size\":70144,\"config\":\"clone/conf=vm1\"}\n"
            "{\"do\":\"export\",\"name\":\"vm1\",\"export\":{\"fabric\":\"loopback\"},\"serial\":"
            "\"the-uuid\"}\n"
            "{\"do\":\"commit\",\"name\":\"vm1\"}\nend\n");
  const std::string conf = slurp(folder_ / "clone.d/vm1.conf");
  EXPECT_EQ(conf.substr(conf.find('\n') + 1), "origin = " + (folder_ / "origin").string() +
                                                  "\ndest = " + (folder_ / "dest").string() +
                                                  "\nregion_size = 8k\n");
  struct stat info {};
  ASSERT_EQ(::stat((folder_ / "clone.d/vm1.conf").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
}

TEST_F(ClonectlCreateTest, leaves_nothing_when_a_step_fails) {
  for (const std::string step : {"prepare", "backstore", "export", "commit"}) {
    make_helper(step);
    const Outcome outcome = create({"--loopback"});
    EXPECT_EQ(outcome.exit_code, 1) << step;
    const std::string why = step == "backstore" ? "the dog ate it" : step + " went wrong";
    EXPECT_EQ(outcome.err, "clonectl: " + why + ": nothing was changed\n");
    EXPECT_EQ(files(), std::vector<std::string>{}) << step;
    EXPECT_TRUE(asked().ends_with("\nend\n")) << "the files went before the LUN";
  }
  EXPECT_EQ(daemon_->requests().back(), "forget vm1");
}

TEST_F(ClonectlCreateTest, a_backstore_that_the_daemon_never_saw_has_the_helpers_reason) {
  start_daemon([](const std::string& request) {
    return request == "list" ? ok("[]") : error("vm1: no such clone LUN here");
  });
  make_helper("backstore");
  EXPECT_EQ(create({"--loopback"}).err, "clonectl: backstore went wrong: nothing was changed\n");
}

TEST_F(ClonectlCreateTest, keeps_the_files_of_a_lun_that_may_still_be_there) {
  make_helper("export", R"(echo '{"ok":false,"error":"backstore vm1: busy"}')");
  const Outcome outcome = create({"--loopback"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("not all could be taken back: backstore vm1: busy"), std::string::npos)
      << outcome.err;
  EXPECT_EQ(files().size(), 4U);
  make_helper("export", "kill -9 $$");
  fs::remove(folder_ / "clone.d/vm1.conf");
  EXPECT_NE(create({"--loopback"}).err.find("the helper for the targets died"), std::string::npos);
  EXPECT_EQ(files().size(), 4U);
}

TEST_F(ClonectlCreateTest, never_removes_what_was_there) {
  ASSERT_EQ(create({"--loopback"}).exit_code, 0);
  ASSERT_EQ(run({"delete", "vm1"}).exit_code, 0);
  EXPECT_EQ(files(), (std::vector<std::string>{"dest", "state/vm1.meta"}));
  make_helper("commit");
  spill(folder_ / "state/vm1.meta", std::string(1 << 20, 'm'));  // Not blank: of a clone.
  EXPECT_EQ(create({"--loopback"}).exit_code, 1);
  // As the daemon left them, byte for byte.
  EXPECT_EQ(slurp(folder_ / "dest"), "d\n");
  EXPECT_EQ(fs::file_size(folder_ / "state/vm1.meta"), 2U);
  EXPECT_TRUE(fs::exists(folder_ / "state/known/vm1"));
}

TEST_F(ClonectlCreateTest, cuts_a_destination_that_was_there_back_to_the_hole_it_was) {
  spill(folder_ / "dest", "");
  fs::resize_file(folder_ / "dest", 4096);
  make_helper("commit");
  EXPECT_EQ(create({"--loopback"}).exit_code, 1);
  EXPECT_EQ(slurp(folder_ / "dest"), std::string(4096, '\0'));
}

TEST_F(ClonectlCreateTest, keeps_how_it_is_shown_and_says_how_to_connect) {
  const Outcome outcome = create({"--nvme", "nqn.2026-01.com.example:vm1", "--allow",
                                  "nqn.2014-08.org.nvmexpress:uuid:1", "--listen", "[::1]"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("nvme connect -t tcp -a ::1 -s 4420 -n nqn.2026-01.com.example:vm1\n"),
            std::string::npos)
      << outcome.out;
  EXPECT_EQ(slurp(folder_ / "clone.d/vm1.export"),
            "{\"fabric\":\"nvme\",\"target\":\"nqn.2026-01.com.example:vm1\",\"address\":\"[::1]\","
            "\"port\":4420,\"allow\":[\"nqn.2014-08.org.nvmexpress:uuid:1\"],\"made\":true}\n");
}

TEST_F(ClonectlCreateTest, refuses_before_it_asks_anybody) {
  using Words = std::vector<std::string>;
  for (const Words& words : {Words{"--size", "1000"},
                             Words{"--size", "0"},
                             Words{"--size", "-1"},
                             Words{"--set", "x"},
                             Words{"--set", "=y"},
                             Words{"--set", "#x=y"},
                             Words{"--set", " #x=y"},
                             Words{"--iscsi", "iqn.x", "--listen", "\xff"},
                             Words{"--set", "nonsense=1"},
                             Words{"--set", "region_size=3k"},
                             Words{"--set", "origin=/other"},
                             Words{"--set", "conf=other"},
                             Words{"--set", "init=overwrite\ndest=/etc/passwd"},
                             Words{"--meta", "/trailing "},
                             Words{"--meta", "relative"},
                             Words{"--loopback", "--nvme", "nqn.x"},
                             Words{"--iscsi", "iqn.x", "--nvme", "nqn.x"},
                             Words{"--nvme", "nqn.x"},
                             Words{"--nvme", "nqn.x/../y", "--allow", "any"},
                             Words{"--iscsi", "../x"},
                             Words{"--nvme", "nqn.x", "--allow", "nqn./y"},
                             Words{"--nvme", "nqn.x", "--allow", "any", "--allow", "nqn.y"},
                             Words{"--allow", "any"},
                             Words{"--loopback", "--listen", "::1"},
                             Words{"--iscsi", "iqn.x", "--listen", "1.2.3.4:0"},
                             Words{"--iscsi", "iqn.x", "--listen", "1.2.3.4:65536"},
                             Words{"--iscsi", "iqn.x", "--listen", "::1"}}) {
    const Outcome outcome = create(words);
    EXPECT_EQ(outcome.exit_code, 2) << ::testing::PrintToString(words) << outcome.err;
  }
  EXPECT_EQ(run({"create", "vm1", "--origin", "/x"}).exit_code, 2);
  EXPECT_EQ(run({"delete", "../vm1"}).exit_code, 2);
  EXPECT_EQ(asked(), "");
  EXPECT_FALSE(fs::exists(folder_ / "clone.d"));
}

TEST_F(ClonectlCreateTest, touches_nothing_while_the_daemon_is_away) {
  daemon_.reset();
  const Outcome outcome = create({"--loopback"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_NE(outcome.err.find("is tcmu-runner running"), std::string::npos) << outcome.err;
  EXPECT_EQ(files(), std::vector<std::string>{});
  EXPECT_EQ(asked().find("backstore"), std::string::npos);
}

TEST_F(ClonectlCreateTest, an_origin_that_is_not_there_is_one_sentence) {
  fs::remove(folder_ / "origin");
  const Outcome outcome = create({"--loopback"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err, "clonectl: origin " + (folder_ / "origin").string() +
                             ": there is no such file or device: check the path, and whether its "
                             "file system is mounted\n");
  EXPECT_EQ(asked().find("backstore"), std::string::npos);
}

TEST_F(ClonectlCreateTest, delete_keeps_a_conf_file_that_it_did_not_write) {
  spill(folder_ / "clone.d/vm1.conf", "origin = /a\n");
  EXPECT_EQ(run({"delete", "vm1"}).exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_ / "clone.d/vm1.conf"));
}

TEST_F(ClonectlCreateTest, delete_leaves_a_lun_alone_that_is_in_use_or_another_handlers) {
  ASSERT_EQ(create({"--loopback"}).exit_code, 0);
  make_helper("in_use");
  EXPECT_EQ(run({"delete", "vm1", "--purge"}).exit_code, 1);
  EXPECT_EQ(files().size(), 5U);
  EXPECT_EQ(asked().find("\"remove\""), std::string::npos);
  spill(folder_ / "config/target/core/user_0/vm1/attrib/dev_config", "rbd/pool/image\n");
  EXPECT_EQ(run({"delete", "vm1", "--force"}).exit_code, 1);
  EXPECT_EQ(files().size(), 5U);
}

// With it, a boot that has lost the records would make a new clone over the users' data.
TEST_F(ClonectlCreateTest, init_is_out_of_the_conf_file_before_the_lun_is_saved) {
  spill(folder_ / "dest", "old data");
  const Outcome outcome = create({"--loopback", "--set", "init=overwrite"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const std::string conf = slurp(folder_ / "clone.d/vm1.conf");
  EXPECT_EQ(conf.find("init"), std::string::npos) << conf;
  EXPECT_NE(conf.find("dest = "), std::string::npos) << conf;
}

TEST_F(ClonectlCreateTest, says_that_an_overwritten_destination_is_not_as_it_was) {
  spill(folder_ / "dest", "old data");
  make_helper("export");
  const Outcome outcome = create({"--loopback", "--set", "init=overwrite"});
  EXPECT_NE(outcome.err.find("may be overwritten"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("nothing was changed"), std::string::npos) << outcome.err;
}

// The daemon may have another folder of records: it opened a clone that this one knows nothing of.
TEST_F(ClonectlCreateTest, puts_nothing_back_that_the_record_does_not_name) {
  spill(folder_ / "dest", "disk");
  make_helper("commit");
  const std::string helper = slurp(folder_ / "helper");
  const std::string elsewhere = "/state/known/vm1; echo '{\"ok\":true}'";
  const auto at = helper.find(elsewhere);
  ASSERT_NE(at, std::string::npos);
  spill(folder_ / "helper", std::string(helper).replace(at, 15, "/elsewhere/vm1"));
  fs::create_directories(folder_ / "elsewhere");
  EXPECT_EQ(create({"--loopback"}).exit_code, 1);
  EXPECT_EQ(slurp(folder_ / "dest"), "d\n") << "as the daemon left it";
}

TEST_F(ClonectlCreateTest, a_failure_that_was_listed_before_stays_listed) {
  start_daemon([](const std::string& request) {
    return ok(request == "list" ? R"([{"name":"vm1","state":"failed"}])" : "null");
  });
  make_helper("export");
  EXPECT_EQ(create({"--loopback"}).exit_code, 1);
  for (const std::string& request : daemon_->requests()) EXPECT_NE(request, "forget vm1");
}

TEST_F(ClonectlCreateTest, delete_clears_away_what_a_killed_create_was_writing) {
  for (const char* name : {"clone.d/vm1.conf.new", "clone.d/vm1.export.new"}) {
    spill(folder_ / name, "half");
  }
  run({"delete", "vm1"});
  EXPECT_TRUE(fs::is_empty(folder_ / "clone.d"));
}

// Until then another command would meet half a LUN.
TEST_F(ClonectlCreateTest, the_helper_has_the_folder_locked_as_long_as_it_runs) {
  spill(folder_ / "helper",
        std::string("#!/bin/sh\n[ -e /proc/$$/fd/3 ] && readlink /proc/$$/fd/3 >>") +
            (folder_ / "asked").string() + "\n");
  ::chmod((folder_ / "helper").c_str(), 0755);
  EXPECT_EQ(create({"--loopback"}).exit_code, 1);
  EXPECT_EQ(asked(), (folder_ / "clone.d").string() + "\n");
}

}  // namespace
