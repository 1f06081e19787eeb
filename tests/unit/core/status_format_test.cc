#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "clonedev/status.h"

namespace clonedev {
namespace {

using Json = nlohmann::json;

// What the kernel's dm-clone shows for a new device of 131072 sectors, region 8, no_hydration.
Status new_dm_clone() {
  Status s;
  s.name = "vm1";
  s.state = CloneState::paused;
  s.size_bytes = 131072 * 512;
  s.region_bytes = 4096;
  s.blocks.origin = 16384;
  s.regions.total = 16384;
  s.hydration.enabled = false;
  s.hydration.threshold = 1;
  s.hydration.batch = 1;
  s.origin.state = "connected";
  s.metadata.used_units = 6;
  s.metadata.total_units = 1024;
  return s;
}

TEST(DmStatusLine, is_the_line_of_the_kernel_field_for_field) {
  EXPECT_EQ(
      dm_status_line(new_dm_clone()),
      "8 6/1024 8 0/16384 0 1 no_hydration 4 hydration_threshold 1 hydration_batch_size 1 rw");
}

TEST(DmStatusLine, counts_the_features_that_are_set) {
  Status s = new_dm_clone();
  s.hydration.enabled = true;
  EXPECT_NE(dm_status_line(s).find(" 0 0 4 hydration_threshold 1 "), std::string::npos);
  s.discard_passdown = false;
  EXPECT_NE(dm_status_line(s).find(" 0 1 no_discard_passdown 4 "), std::string::npos);
  s.hydration.enabled = false;
  EXPECT_NE(dm_status_line(s).find(" 0 2 no_hydration no_discard_passdown 4 "), std::string::npos);
}

TEST(DmStatusLine, gives_regions_and_their_size_in_sectors) {
  Status s = new_dm_clone();
  s.region_bytes = 1 << 20;
  s.regions = {12, 3, 64};
  s.hydration.threshold = 256;
  s.hydration.batch = 32;
  s.hydration.enabled = true;
  EXPECT_EQ(dm_status_line(s),
            "8 6/1024 2048 12/64 3 0 4 hydration_threshold 256 hydration_batch_size 32 rw");
}

TEST(DmStatusLine, ends_in_the_mode_and_says_no_more_than_Fail_in_that_mode) {
  Status s = new_dm_clone();
  s.mode = CloneMode::ro;
  EXPECT_TRUE(dm_status_line(s).ends_with(" ro"));
  s.mode = CloneMode::fail;
  EXPECT_EQ(dm_status_line(s), "Fail");
}

TEST(StatusJson, holds_every_field_of_schema_1) {
  Status s = new_dm_clone();
  s.blocks = {100, 20, 3, 2};
  s.hydration.eta_known = true;
  s.hydration.eta_s = 77;
  s.hydration.rate_bytes_per_s = 1234;
  s.hydration.min_rate = 777;
  s.origin.last_error = "timed out";
  s.origin.using_spec = "nbd://server";
  s.origin.bytes_read = 99;
  s.errors = {1, 2, 3, 4, 5, 6};
  s.metadata.commits = 5;
  s.destination_direct = true;
  s.io = "threads";
  const Json expected = {
      {"schema", 1},
      {"name", "vm1"},
      {"state", "paused"},
      {"mode", "rw"},
      {"reason", nullptr},
      {"size_bytes", 131072 * 512},
      {"region_bytes", 4096},
      {"blocks",
       {{"origin", 100}, {"zero", 20}, {"destination", 3}, {"copied", 2}, {"total", 123}}},
      {"regions", {{"hydrated", 0}, {"hydrating", 0}, {"total", 16384}}},
      {"hydration",
       {{"enabled", false},
        {"rate_bytes_per_s", 1234},
        {"eta_s", 77},
        {"threshold", 1},
        {"batch", 1},
        {"rate_limit", nullptr},
        {"min_rate", 777},
        {"copy_on_read", true},
        {"held_up_by", nullptr}}},
      {"origin",
       {{"state", "connected"},
        {"using", "nbd://server"},
        {"last_error", "timed out"},
        {"bytes_read", 99}}},
      {"errors",
       {{"origin_read", 1},
        {"destination", 2},
        {"metadata", 3},
        {"busy", 4},
        {"origin_lost", 5},
        {"mismatch", 6}}},
      {"metadata", {{"used_units", 6}, {"total_units", 1024}, {"commits", 5}}},
      {"discard_passdown", true},
      {"write_cache", true},
      {"destination_direct", true},
      {"io", "threads"},
      {"dm", dm_status_line(s)},
  };
  EXPECT_EQ(Json::parse(status_json(s)), expected);
}

TEST(StatusJson, says_null_for_what_is_not_known) {
  const Json json = Json::parse(status_json(new_dm_clone()));
  EXPECT_TRUE(json["hydration"]["eta_s"].is_null());
  EXPECT_TRUE(json["origin"]["last_error"].is_null());
  EXPECT_TRUE(json["reason"].is_null());
  EXPECT_TRUE(json["io"].is_null());
}

TEST(StatusJson, names_states_and_modes_as_documented) {
  Status s;
  std::set<std::string> words;
  for (const auto state :
       {CloneState::hydrating, CloneState::paused, CloneState::complete, CloneState::failed}) {
    s.state = state;
    words.insert(Json::parse(status_json(s))["state"]);
  }
  for (const auto mode : {CloneMode::rw, CloneMode::ro, CloneMode::fail}) {
    s.mode = mode;
    words.insert(Json::parse(status_json(s))["mode"]);
  }
  EXPECT_EQ(words, (std::set<std::string>{"hydrating", "paused", "complete", "failed", "rw", "ro",
                                          "Fail"}));
}

TEST(StatusJson, stays_one_valid_line_when_a_peer_sends_odd_bytes) {
  Status s = new_dm_clone();
  s.origin.last_error = "line\nbreak \xff\xfe \"quoted\"";
  const std::string text = status_json(s);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_NE(Json::parse(text)["origin"]["last_error"].get<std::string>().find("\"quoted\""),
            std::string::npos);
}

}  // namespace
}  // namespace clonedev
