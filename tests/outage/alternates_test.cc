// The whole device with alternates, over real servers and files: who is read from when the origin
// goes, comes back, has changed, or was never there.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "outage_bed.h"

namespace clonedev {
namespace {

class AlternatesOfDevice : public OutageBed {
 protected:
  AlternatesOfDevice() {
    options_.origin = first_->spec();
    options_.alternates = {second_->spec()};
  }

  std::string using_now() { return device_->status().origin.using_spec; }
  // Of what only the origin has.
  Result<> read_more() {
    const std::uint64_t block = absent();
    return read(block, of_origin(block));
  }

  const std::unique_ptr<TroubledOrigin> first_ = troubled_nbd(disk_);
  const std::unique_ptr<TroubledOrigin> second_ = troubled_nbd(disk_);
};

TEST_F(AlternatesOfDevice, from_one_nbd_server_to_the_other_and_back) {
  open();
  EXPECT_TRUE(read_more());
  EXPECT_EQ(using_now(), first_->spec());
  EXPECT_EQ(second_->connections(), 0U);
  first_->set(Trouble::gone);
  becomes_well(absent());
  EXPECT_EQ(using_now(), second_->spec());
  first_->set(Trouble::none);
  second_->set(Trouble::gone);
  becomes_well(absent());
  EXPECT_EQ(using_now(), first_->spec());
}

TEST_F(AlternatesOfDevice, with_both_gone_reads_are_busy_until_either_is_back) {
  open();
  first_->set(Trouble::gone);
  second_->set(Trouble::gone);
  const auto outcome = read_more();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, Errc::busy);
  EXPECT_EQ(using_now(), "");
  second_->set(Trouble::none);
  becomes_well(absent());
  EXPECT_EQ(using_now(), second_->spec());
}

TEST_F(AlternatesOfDevice, one_with_other_content_is_never_read) {
  second_->set(Trouble::other_content);
  open();
  EXPECT_TRUE(read_more());
  first_->set(Trouble::gone);
  for (int i = 0; i < 3; ++i) {
    const auto outcome = read_more();
    ASSERT_FALSE(outcome);
    EXPECT_EQ(outcome.error().code, Errc::busy);
  }
  EXPECT_EQ(using_now(), "");
  first_->set(Trouble::none);
  becomes_well(absent());
}

TEST_F(AlternatesOfDevice, a_clone_is_opened_with_its_origin_away) {
  open();
  close_within_three_seconds();
  first_->set(Trouble::gone);
  open();
  becomes_well(absent());
  EXPECT_EQ(using_now(), second_->spec());
}

TEST_F(AlternatesOfDevice, a_new_clone_is_not_made_from_an_alternate) {
  first_->set(Trouble::gone);
  const auto device = try_to_open();
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, Errc::unavailable) << device.error().message();
  EXPECT_EQ(second_->connections(), 0U);
}

TEST_F(AlternatesOfDevice, from_a_file_that_is_written_to_a_server) {
  const auto file = folder_ / "golden.img";
  std::ofstream(file, std::ios::binary) << disk_;
  options_.origin = file;
  open();
  EXPECT_TRUE(read_more());
  EXPECT_EQ(using_now(), file);
  std::ofstream(file, std::ios::binary | std::ios::app) << "more";
  becomes_well(absent());
  EXPECT_EQ(using_now(), second_->spec());
}

TEST_F(AlternatesOfDevice, from_nbd_to_http) {
  const auto mirror = troubled_http(disk_);
  options_.alternates = {mirror->spec()};
  open();
  EXPECT_TRUE(read_more());
  first_->set(Trouble::stalled);
  // A place that the proof of content was just reading is answered, and its reader with it.
  for (int i = 0; i < 16 && using_now() != mirror->spec(); ++i) becomes_well(absent());
  EXPECT_EQ(using_now(), mirror->spec());
  close_within_three_seconds();
}

TEST_F(AlternatesOfDevice, three_different_things_are_asked_for) {
  options_.alternates = {options_.dest};
  std::ofstream(options_.dest) << "x";
  const auto device = try_to_open();
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code, Errc::refused);
  EXPECT_NE(device.error().message().find("alternate and destination"), std::string::npos)
      << device.error().message();
}

}  // namespace
}  // namespace clonedev
