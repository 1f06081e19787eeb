#include "scsi_intercept.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "scsi_cdb.h"

namespace clonedev::scsi {
namespace {

using Cdb = std::array<std::uint8_t, 16>;
using Codes = std::initializer_list<std::uint8_t>;

TEST(ScsiIntercept, unmap_bit_of_write_same_is_taken_out_and_remembered) {
  for (const std::uint8_t opcode : Codes{0x41, 0x93}) {
    Cdb cdb{opcode, 0x08};
    EXPECT_EQ(judge(cdb.data()), Verdict::leave);
    EXPECT_EQ(cdb[1] & 0x08, 0) << "the runner would discard without a look at the block";
    EXPECT_TRUE(wants_deallocation(cdb.data()));
  }
}

TEST(ScsiIntercept, plain_write_same_keeps_its_space) {
  Cdb cdb{0x93, 0x00};
  EXPECT_EQ(judge(cdb.data()), Verdict::leave);
  EXPECT_FALSE(wants_deallocation(cdb.data()));
}

TEST(ScsiIntercept, anchor_and_obsolete_bits_of_write_same_are_invalid_fields) {
  for (const std::uint8_t flags : Codes{0x10, 0x18, 0x02, 0x04}) {
    Cdb cdb{0x93, flags};
    EXPECT_EQ(judge(cdb.data()), Verdict::invalid_field) << "flags " << int{flags};
  }
}

TEST(ScsiIntercept, write_same_without_data_is_an_invalid_field) {
  Cdb cdb{0x93, 0x01};
  EXPECT_EQ(judge(cdb.data()), Verdict::invalid_field);
}

TEST(ScsiIntercept, commands_the_runner_does_wrong_are_refused) {
  for (const std::uint8_t opcode : Codes{0x04, 0x83, 0x84}) {
    Cdb cdb{opcode};
    EXPECT_EQ(judge(cdb.data()), Verdict::invalid_command);
  }
}

TEST(ScsiIntercept, reads_and_writes_are_left_alone) {
  for (const std::uint8_t opcode : Codes{0x28, 0x88, 0x2a, 0x8a, 0x89, 0x35, 0x1a}) {
    Cdb cdb{opcode, 0x08};
    const Cdb before = cdb;
    EXPECT_EQ(judge(cdb.data()), Verdict::leave);
    EXPECT_EQ(cdb, before);
  }
}

TEST(ScsiIntercept, an_unmap_is_looked_at) {
  Cdb cdb{0x42};
  EXPECT_EQ(judge(cdb.data()), Verdict::parameter_list);
}

TEST(ScsiIntercept, only_the_two_pages_that_need_it_are_answered) {
  Cdb standard{0x12, 0, 0};
  Cdb identification{0x12, 1, 0x83};
  Cdb limits{0x12, 1, 0xb0};
  EXPECT_EQ(judge(standard.data()), Verdict::standard_inquiry);
  EXPECT_EQ(judge(identification.data()), Verdict::device_identification);
  EXPECT_EQ(judge(limits.data()), Verdict::leave);
}

TEST(ScsiIntercept, fua_is_read_from_writes_and_not_from_their_compound_cousins) {
  for (const std::uint8_t opcode : Codes{0x2a, 0xaa, 0x8a, 0x89}) {
    const Cdb cdb{opcode, 0x08};
    EXPECT_TRUE(wants_fua(cdb.data()));
  }
  const Cdb verify{0x8e, 0x08};
  const Cdb short_write{0x0a, 0x08};
  EXPECT_FALSE(wants_fua(verify.data()));
  EXPECT_FALSE(wants_fua(short_write.data()));
}

TEST(ScsiIntercept, mode_sense_tells_of_write_protection_in_both_forms) {
  const ModeParameters protected_lun{true, true};
  const std::vector<std::uint8_t> caching{0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0,
                                          0,    0,    0,    0, 0, 0, 0, 0, 0, 0};
  Cdb six{0x1a, 0, 0x08, 0, 0xff};
  std::vector<std::uint8_t> wanted{23, 0, 0x80, 0};
  wanted.insert(wanted.end(), caching.begin(), caching.end());
  EXPECT_EQ(mode_sense_answer(six.data(), protected_lun), wanted);
  Cdb ten{0x5a, 0, 0x08, 0};
  wanted = {0, 26, 0, 0x80, 0, 0, 0, 0};
  wanted.insert(wanted.end(), caching.begin(), caching.end());
  EXPECT_EQ(mode_sense_answer(ten.data(), protected_lun), wanted);
}

TEST(ScsiIntercept, mode_sense_has_all_pages_their_masks_and_nothing_saved) {
  Cdb all{0x1a, 0, 0x3f, 0xff};
  const auto answer = mode_sense_answer(all.data(), {});
  ASSERT_EQ(answer.size(), 4u + 12 + 20 + 12);
  EXPECT_EQ(answer[0], answer.size() - 1);
  EXPECT_EQ(answer[2], 0) << "no protection";
  EXPECT_EQ(answer[4], 0x01);
  EXPECT_EQ(answer[16], 0x08);
  EXPECT_EQ(answer[18], 0) << "no write cache";
  EXPECT_EQ(answer[36], 0x0a);
  Cdb mask{0x1a, 0, 0x40 | 0x08, 0};
  EXPECT_EQ(mode_sense_answer(mask.data(), {true, true})[6], 0) << "nothing can be changed";
  for (const Cdb& none :
       {Cdb{0x1a, 0, 0xc8, 0}, Cdb{0x1a, 0, 0x08, 1}, Cdb{0x1a, 0, 0x1c, 0}, Cdb{0x5a, 0, 0x05}}) {
    EXPECT_TRUE(mode_sense_answer(none.data(), {}).empty());
  }
}

TEST(ScsiIntercept, commands_that_change_data_are_known) {
  for (const std::uint8_t opcode :
       Codes{0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x41, 0x93, 0x42, 0x89}) {
    EXPECT_TRUE(changes_data(&opcode)) << int{opcode};
  }
  for (const std::uint8_t opcode : Codes{0x08, 0x28, 0x88, 0x12, 0x1a, 0x35, 0x91, 0x00, 0xa0}) {
    EXPECT_FALSE(changes_data(&opcode)) << int{opcode};
  }
}

TEST(ScsiIntercept, standard_page_promises_no_third_party_copy) {
  const auto page = standard_inquiry_page();
  EXPECT_EQ(page[5], 0);
  EXPECT_EQ(page[4], 31);
  EXPECT_EQ(std::string(page.begin() + 8, page.begin() + 32), "LIO-ORG TCMU device     ");
}

TEST(ScsiIntercept, identification_page_is_built_from_the_serial_alone) {
  const auto page = device_identification_page("0123abcd-4567");
  ASSERT_EQ(page.size(), 4U + 4 + 8 + 13 + 1 + 20);
  EXPECT_EQ(page[1], 0x83);
  EXPECT_EQ(page[2] * 256U + page[3], page.size() - 4);
  EXPECT_EQ(page[4], 0x02);
  EXPECT_EQ(page[5], 0x01);
  EXPECT_EQ(page[7], 8 + 13 + 1);
  EXPECT_EQ(std::string(page.begin() + 8, page.begin() + 29), "LIO-ORG 0123abcd-4567");
  const std::vector<std::uint8_t> naa(page.begin() + 30, page.end());
  EXPECT_EQ(naa,
            (std::vector<std::uint8_t>{0x01, 0x03, 0x00, 0x10, 0x60, 0x01, 0x40, 0x50, 0x12, 0x3a,
                                       0xbc, 0xd4, 0x56, 0x70, 0,    0,    0,    0,    0,    0}));
}

TEST(ScsiIntercept, longest_serial_keeps_every_length_byte_true) {
  const auto page = device_identification_page(std::string(254, 'f'));
  EXPECT_EQ(page[7], 255);
  EXPECT_EQ(page.size(), 4U + 4 + 255 + 20);
  EXPECT_EQ(page.back(), 0xff);
}

TEST(ScsiIntercept, answer_ends_at_the_allocation_length_and_clears_the_rest) {
  std::array<std::uint8_t, 8> first;
  std::array<std::uint8_t, 8> second;
  first.fill(0xdd);
  second.fill(0xdd);
  const std::array<iovec, 2> buffer{iovec{first.data(), 8}, iovec{second.data(), 8}};
  const std::array<std::uint8_t, 20> page{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const Cdb cdb{0x12, 1, 0x83, 0, 10};
  answer_inquiry(cdb.data(), page, buffer);
  EXPECT_EQ(first, (std::array<std::uint8_t, 8>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(second, (std::array<std::uint8_t, 8>{9, 10}));
  EXPECT_EQ(buffer[0].iov_len, 8U);
}

TEST(ScsiIntercept, default_port_group_is_not_one_of_the_users_own) {
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
}  // namespace clonedev::scsi
