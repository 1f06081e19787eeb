#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>

#include "clonectl_fixture.h"

namespace {

using clonedev::CloneMode;
using clonedev::CloneState;
using clonedev::status_json;
using Json = nlohmann::ordered_json;

clonedev::Status failed_status(const std::string& name) {
  clonedev::Status s;
  s.name = name;
  s.state = CloneState::failed;
  s.mode = CloneMode::fail;
  s.reason = "/mnt/x.img: is missing: is its file system mounted?";
  return s;
}

void expect_error_line(const Outcome& outcome, const std::string& words) {
  EXPECT_TRUE(outcome.err.starts_with("clonectl: ")) << outcome.err;
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
  EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
}

TEST_F(ClonectlTest, lists_a_table_with_the_reason_of_what_failed) {
  start_daemon([](const std::string&) {
    return ok("[" + status_json(example_status("vm1")) + "," +
              status_json(failed_status("long-name")) + "]");
  });
  const Outcome outcome = run({"list"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "NAME       STATE      MODE  SIZE       HYDRATED  ORIGIN     REASON\n"
            "vm1        hydrating  rw    100.0 GiB  50.0 %    connected  -\n"
            "long-name  failed     Fail  0 B        -         -          "
            "/mnt/x.img: is missing: is its file system mounted?\n");
  EXPECT_EQ(daemon_->requests(), std::vector<std::string>{"list"});
}

TEST_F(ClonectlTest, lists_json_as_the_daemon_gave_it) {
  const std::string array = "[" + status_json(example_status("vm1")) + "]";
  start_daemon([array](const std::string&) { return ok(array); });
  const Outcome outcome = run({"list", "--json"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, array + "\n");
}

TEST_F(ClonectlTest, lists_an_empty_host) {
  start_daemon([](const std::string&) { return ok("[]"); });
  EXPECT_EQ(run({"list"}).exit_code, 0);
  EXPECT_EQ(run({"list", "--json"}).out, "[]\n");
}

std::string verification(const std::string& state, std::uint64_t mismatch = 0) {
  return R"({"state":")" + state + R"(","size_bytes":1048576,"done_bytes":524288,)" +
         R"("verified_bytes":409600,"skipped_bytes":114688,"mismatch_bytes":)" +
         std::to_string(mismatch) + R"(,"mismatch_ranges":)" + (mismatch ? "1" : "0") +
         R"(,"mismatches":[)" + (mismatch ? R"({"offset":8192,"length":4096})" : "") +
         R"(],"unreadable_bytes":0,"last_error":null})";
}

TEST_F(ClonectlTest, verifies_and_tells_what_was_compared) {
  std::atomic<int> asked = 0;
  start_daemon(
      [&](const std::string&) { return ok(verification(++asked < 3 ? "running" : "equal")); });
  const Outcome outcome = run({"verify", "vm1"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "equal       400.0 KiB (409600 bytes)\n"
            "different   0 B (0 bytes), ranges: 0\n"
            "unreadable  0 B (0 bytes)\n"
            "skipped     112.0 KiB (114688 bytes): written, zeroed or not copied\n");
  EXPECT_EQ(daemon_->requests(),
            (std::vector<std::string>{"verify vm1 start", "verify vm1", "verify vm1"}));
}

TEST_F(ClonectlTest, a_verification_that_finds_a_difference_ends_with_3_and_names_it) {
  start_daemon([](const std::string&) { return ok(verification("different", 4096)); });
  const Outcome outcome = run({"verify", "vm1"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_NE(outcome.out.find("bytes 8192..12287 differ from the origin\n"), std::string::npos);
  expect_error_line(outcome, "differs from the origin where nobody has written");
  const Outcome json = run({"verify", "vm1", "--json"});
  EXPECT_EQ(json.exit_code, 3);
  EXPECT_EQ(Json::parse(json.out)["mismatches"][0]["offset"], 8192);
}

TEST_F(ClonectlTest, a_verification_that_could_not_read_all_ends_with_1) {
  for (const char* state : {"failed", "stopped"}) {
    start_daemon([state](const std::string&) { return ok(verification(state)); });
    const Outcome outcome = run({"verify", "vm1"});
    EXPECT_EQ(outcome.exit_code, 1);
    expect_error_line(outcome, "not all could be verified");
    daemon_.reset();
    std::filesystem::remove(socket_);
  }
}

TEST_F(ClonectlTest, a_verification_that_takes_too_long_is_stopped_and_ends_with_4) {
  start_daemon([](const std::string&) { return ok(verification("running")); });
  const Outcome outcome = run({"verify", "vm1", "--timeout", "0.2"});
  EXPECT_EQ(outcome.exit_code, 4);
  expect_error_line(outcome, "50.0 % looked at");
  EXPECT_EQ(daemon_->requests().back(), "verify vm1 stop");
}

TEST_F(ClonectlTest, shows_one_lun_in_full) {
  start_daemon([](const std::string&) { return ok(status_json(example_status("vm1"))); });
  const Outcome outcome = run({"status", "vm1"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "name              vm1\n"
            "state             hydrating, rw\n"
            "size              100.0 GiB (107374182400 bytes)\n"
            "hydrated          [##########..........] 50.0 %, 819200 of 1638400 regions of 64.0 "
            "KiB, 12 in flight\n"
            "blocks            50.0 GiB origin (50.0 %), 4.0 GiB zero (4.0 %), 46.0 GiB "
            "destination (46.0 %)\n"
            "hydration         on, 105.0 MiB/s, 8 min 10 s left, threshold 64, batch size 16\n"
            "origin            connected, 40.0 GiB read\n"
            "errors            origin_read 0, destination 0, metadata 0, busy 3, origin_lost 0, "
            "mismatch 0\n"
            "metadata          6 of 1024 units of 4 KiB, 12 commits\n"
            "write cache       on\n"
            "discard passdown  on\n"
            "destination I/O   direct (O_DIRECT), by io_uring\n");
}

TEST_F(ClonectlTest, shows_status_as_json_and_as_dm_clone) {
  const auto status = example_status("vm1");
  start_daemon([&](const std::string&) { return ok(status_json(status)); });
  EXPECT_EQ(run({"status", "vm1", "--json"}).out, status_json(status) + "\n");
  EXPECT_EQ(
      run({"status", "--dm", "vm1"}).out,
      "8 6/1024 128 819200/1638400 12 0 4 hydration_threshold 64 hydration_batch_size 16 rw\n");
  EXPECT_EQ(run({"status", "vm1", "--dm", "--json"}).exit_code, 2);
}

TEST_F(ClonectlTest, ends_status_of_a_failed_lun_with_3) {
  start_daemon([](const std::string&) { return ok(status_json(failed_status("vm1"))); });
  const Outcome outcome = run({"status", "vm1"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_NE(outcome.out.find("failed, Fail"), std::string::npos);
  expect_error_line(outcome, "is its file system mounted?");
  EXPECT_EQ(run({"status", "vm1", "--dm"}).out, "Fail\n");
}

TEST_F(ClonectlTest, escapes_odd_names_so_that_they_stay_one_word) {
  start_daemon([](const std::string&) { return ok(status_json(example_status("x"))); });
  run({"status", "a b%c\n\x7f\xc3\xa9"});
  EXPECT_EQ(daemon_->requests(), std::vector<std::string>{"status a%20b%25c%0A%7F\xc3\xa9"});
}

TEST_F(ClonectlTest, takes_a_lun_that_is_named_like_a_command) {
  start_daemon([](const std::string&) { return ok(status_json(example_status("list"))); });
  EXPECT_EQ(run({"status", "list"}).exit_code, 0);
  EXPECT_EQ(daemon_->requests(), std::vector<std::string>{"status list"});
}

TEST_F(ClonectlTest, lets_no_text_of_a_peer_drive_the_terminal) {
  auto status = example_status("vm\x1b[2J");
  status.origin.last_error = "\x1b]0;owned\x07";
  start_daemon([&](const std::string& request) {
    return ok(request == "list" ? "[" + status_json(status) + "]" : status_json(status));
  });
  EXPECT_EQ(run({"status", "vm1"}).out.find('\x1b'), std::string::npos);
  EXPECT_EQ(run({"list"}).out.find('\x1b'), std::string::npos);
}

TEST_F(ClonectlTest, sends_messages_word_by_word) {
  start_daemon([](const std::string&) { return ok("null"); });
  EXPECT_EQ(run({"message", "vm1", "enable_hydration"}).exit_code, 0);
  EXPECT_EQ(run({"message", "vm1", "hydration_threshold", "7"}).exit_code, 0);
  EXPECT_EQ(daemon_->requests(), (std::vector<std::string>{"message vm1 enable_hydration",
                                                           "message vm1 hydration_threshold 7"}));
}

TEST_F(ClonectlTest, passes_on_what_the_daemon_refuses) {
  const auto answer_with = [this](std::string reply) {
    start_daemon([reply = std::move(reply)](const std::string&) { return reply; });
  };
  answer_with(error("vm9: no such LUN: see clonectl list"));
  Outcome outcome = run({"status", "vm9"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.err, "clonectl: vm9: no such LUN: see clonectl list\n");
  answer_with(error("foo: unknown message: see clonectl(8)", R"(,"usage":true)"));
  EXPECT_EQ(run({"message", "vm1", "foo"}).exit_code, 2);
  answer_with(error("vm1.meta: is damaged: restore it", R"(,"usage":false,"damaged":true)"));
  EXPECT_EQ(run({"message", "vm1", "enable_hydration"}).exit_code, 3);
}

TEST_F(ClonectlTest, survives_whatever_answers) {
  for (const std::string odd :
       {"", "\n", "hello\n", "[]\n", "{}\n", "{\"ok\":1}\n", "{\"ok\":false}\n", "{\"ok\":true}\n",
        "{\"ok\":true,\"result\":{\"name\":3}}\n", "{\"ok\":true,\"result\":7}\n",
        "{\"ok\":true,\"result\":[1]}\n", "no newline"}) {
    start_daemon([odd](const std::string&) { return odd; });
    const Outcome outcome = run({"status", "vm1"});
    EXPECT_EQ(outcome.exit_code, 1) << odd;
    expect_error_line(outcome, "");
  }
}

TEST_F(ClonectlTest, says_when_nobody_listens) {
  const Outcome outcome = run({"list"});
  EXPECT_EQ(outcome.exit_code, 1);
  expect_error_line(outcome, "is tcmu-runner running");
}

TEST_F(ClonectlTest, finds_the_socket_by_option_before_environment) {
  start_daemon([](const std::string&) { return ok("[]"); });
  EXPECT_EQ(run({"--socket", socket_.string(), "list"}).exit_code, 0);
  EXPECT_EQ(run({"list", "--socket", socket_.string()}).exit_code, 0);
  EXPECT_EQ(run({"list", "--socket", "/nowhere"}).exit_code, 1);
  EXPECT_EQ(run({"list", "--socket", std::string(200, 'x')}).exit_code, 2);
}

TEST_F(ClonectlTest, knows_no_other_commands_and_ends_misuse_with_2) {
  for (const std::string command : {"watch", "map", "metrics"}) {
    const Outcome outcome = run({command, "vm1"});
    EXPECT_EQ(outcome.exit_code, 2) << command;
    expect_error_line(outcome, command + ": unknown command");
  }
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"status"},
                                                    {"message", "vm1"},
                                                    {"set", "vm1"},
                                                    {"wait"},
                                                    {"list", "extra"},
                                                    {"--nonsense", "list"},
                                                    {"wait", "vm1", "--timeout", "soon"},
                                                    {"wait", "vm1", "--timeout", "-1"}}) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    expect_error_line(outcome, "clonectl --help");
  }
  EXPECT_EQ(run({"--help"}).exit_code, 0);
  EXPECT_EQ(run({"--version"}).exit_code, 0);
}

TEST_F(ClonectlTest, detach_says_that_the_origin_may_go_or_what_still_needs_it) {
  struct Shown {  // Shared: the daemon answers on a thread of its own, which outlives this body.
    std::mutex mutex;
    clonedev::Status status;
  };
  const auto shown = std::make_shared<Shown>();
  start_daemon([shown](const std::string&) {
    const std::lock_guard lock(shown->mutex);
    return ok(status_json(shown->status));
  });
  const auto detach = [&](const clonedev::Status& status) {
    {
      const std::lock_guard lock(shown->mutex);
      shown->status = status;
    }
    return run({"detach", "vm1"});
  };
  auto status = example_status("vm1");
  status.state = CloneState::hydrating;
  status.blocks.origin = 7;
  status.regions = {93, 0, 100};
  status.hydration.enabled = true;
  const Outcome early = detach(status);
  EXPECT_EQ(early.exit_code, 1);
  expect_error_line(early, "7 of 100 regions still need the origin: clonectl wait vm1");
  status.hydration.enabled = false;
  expect_error_line(detach(status), "clonectl message vm1 enable_hydration");
  status.state = CloneState::complete;
  status.origin.state = "connected";
  expect_error_line(detach(status), "still use the origin");
  status.origin.state = "closed";
  for (int i = 0; i < 2; ++i) {
    const Outcome done = detach(status);
    EXPECT_EQ(done.exit_code, 0);
    EXPECT_NE(done.out.find("it may go"), std::string::npos) << done.out;
  }
  status.state = CloneState::failed;
  status.reason = "a flush has failed";
  expect_error_line(detach(status), "a flush has failed");
}

TEST_F(ClonectlTest, waits_until_complete) {
  std::atomic<int> asked{0};
  start_daemon([&](const std::string&) {
    auto status = example_status("vm1");
    status.state = ++asked < 3 ? CloneState::hydrating : CloneState::complete;
    return ok(status_json(status));
  });
  EXPECT_EQ(run({"wait", "vm1"}).exit_code, 0);
  EXPECT_EQ(asked, 3);
}

TEST_F(ClonectlTest, gives_up_waiting_with_4) {
  start_daemon([](const std::string&) { return ok(status_json(example_status("vm1"))); });
  const auto start = std::chrono::steady_clock::now();
  const Outcome outcome = run({"wait", "vm1", "--timeout", "0.3"});
  EXPECT_EQ(outcome.exit_code, 4);
  expect_error_line(outcome, "50.0 % hydrated");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  EXPECT_EQ(run({"wait", "vm1", "--timeout", "0"}).exit_code, 4);
}

TEST_F(ClonectlTest, gives_up_with_4_when_the_daemon_is_silent) {
  start_daemon([](const std::string&) { return std::string(FakeDaemon::kSilence); });
  EXPECT_EQ(run({"wait", "vm1", "--timeout", "0.2"}).exit_code, 4);
}

TEST_F(ClonectlTest, ends_waiting_with_1_when_the_lun_fails_or_vanishes) {
  const auto answer_at_last = [this](std::string last) {
    start_daemon([last = std::move(last), asked = 0](const std::string&) mutable {
      return ++asked == 1 ? ok(status_json(example_status("vm1"))) : last;
    });
  };
  answer_at_last(ok(status_json(failed_status("vm1"))));
  const Outcome outcome = run({"wait", "vm1"});
  EXPECT_EQ(outcome.exit_code, 1);
  expect_error_line(outcome, "the LUN has failed");
  answer_at_last(error("vm1: no such LUN: see clonectl list"));
  EXPECT_EQ(run({"wait", "vm1"}).exit_code, 1);
}

TEST_F(ClonectlTest, tells_that_a_paused_clone_will_not_end_by_itself) {
  std::atomic<int> asked{0};
  start_daemon([&](const std::string&) {
    auto status = example_status("vm1");
    status.hydration.enabled = false;
    status.state = ++asked < 3 ? CloneState::paused : CloneState::complete;
    return ok(status_json(status));
  });
  const Outcome outcome = run({"wait", "vm1"});
  EXPECT_EQ(outcome.exit_code, 0);
  expect_error_line(outcome, "hydration is off");
}

}  // namespace
