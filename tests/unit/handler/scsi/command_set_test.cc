#include "scsi/command_set.h"

#include <gtest/gtest.h>

#include <array>
#include <initializer_list>

namespace clonedev::scsi {
namespace {

using Cdb = std::array<std::uint8_t, 16>;
using Codes = std::initializer_list<std::uint8_t>;

Cdb ask(std::uint8_t options, std::uint8_t opcode = 0, std::uint8_t service_action = 0) {
  return {0xa3, 0x0c, options, opcode, 0, service_action, 0, 0, 0xff, 0xff};
}

TEST(CommandSet, commands_that_change_data_are_known) {
  for (const std::uint8_t opcode :
       Codes{0x04, 0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x41, 0x93, 0x42, 0x83, 0x89, 0x8b}) {
    EXPECT_TRUE(find_opcode(opcode)->changes_data) << int{opcode};
  }
  for (const std::uint8_t opcode :
       Codes{0x08, 0x28, 0x88, 0x12, 0x1a, 0x35, 0x91, 0x00, 0xa0, 0x2f, 0x8f, 0xaf}) {
    EXPECT_FALSE(find_opcode(opcode)->changes_data) << int{opcode};
  }
}

TEST(CommandSet, what_is_not_in_it_is_not_found) {
  for (const std::uint8_t opcode : Codes{0x48 /* SANITIZE */, 0x4d, 0x9c, 0xa4, 0x8c}) {
    EXPECT_EQ(find_opcode(opcode), nullptr) << int{opcode};
  }
  const Cdb other_service_action{0x9e, 0x11};
  EXPECT_EQ(find_command(other_service_action.data()), nullptr);
}

// With protection information above all: a LUN that has none must not seem to check it.
TEST(CommandSet, flags_that_mean_nothing_are_seen) {
  for (const std::uint8_t opcode : Codes{0x28, 0x2a, 0x88, 0x8a, 0xa8, 0xaa, 0x2e, 0x8e, 0xae, 0x2f,
                                         0x8f, 0xaf, 0x41, 0x93, 0x89, 0x8b}) {
    for (const std::uint8_t flag : Codes{0x20, 0x40, 0x80}) {
      const Cdb cdb{opcode, flag};
      EXPECT_TRUE(find_command(cdb.data())->has_unknown_flag(cdb.data())) << int{opcode};
    }
  }
  const Cdb dpo_fua{0x2a, 0x18};
  EXPECT_FALSE(find_command(dpo_fua.data())->has_unknown_flag(dpo_fua.data()));
  const Cdb anchor{0x42, 0x01};
  EXPECT_TRUE(find_command(anchor.data())->has_unknown_flag(anchor.data()));
  const Cdb old_lun_number{0x0a, 0x20};
  EXPECT_FALSE(find_command(old_lun_number.data())->has_unknown_flag(old_lun_number.data()));
}

TEST(CommandSet, fua_is_read_from_what_has_it_and_a_verified_write_is_durable) {
  for (const std::uint8_t opcode : Codes{0x2a, 0xaa, 0x8a, 0x89, 0x8b}) {
    EXPECT_TRUE(wants_fua(Cdb{opcode, 0x08}.data()));
    EXPECT_FALSE(wants_fua(Cdb{opcode, 0x10}.data()));
  }
  for (const std::uint8_t opcode : Codes{0x2e, 0xae, 0x8e}) {
    EXPECT_TRUE(wants_fua(Cdb{opcode, 0}.data()));
  }
  EXPECT_FALSE(wants_fua(Cdb{0x0a, 0x08}.data()));
}

TEST(CommandSet, all_commands_are_told_with_and_without_time_outs) {
  const auto plain = *supported_operation_codes(ask(0).data(), true);
  const auto timed = *supported_operation_codes(ask(0x80).data(), true);
  EXPECT_EQ(big_endian(plain.data(), 4), plain.size() - 4);
  EXPECT_EQ((plain.size() - 4) % 8, 0U);
  EXPECT_EQ((plain.size() - 4) / 8, (timed.size() - 4) / 20);
  for (std::size_t at = 4; at < plain.size(); at += 8) {
    const bool has_service_action = (plain[at + 5] & 1) != 0;
    const auto one = supported_operation_codes(
        ask(has_service_action ? 2 : 1, plain[at], plain[at + 3]).data(), true);
    ASSERT_TRUE(one) << int{plain[at]};
    EXPECT_EQ((*one)[1], 3);
    EXPECT_EQ((*one)[4], plain[at]);
    EXPECT_EQ(big_endian(&(*one)[2], 2), big_endian(&plain[at + 6], 2));
    EXPECT_EQ(one->size(), 4 + cdb_bytes(plain[at]));
    EXPECT_FALSE(supported_operation_codes(
        ask(has_service_action ? 1 : 2, plain[at], plain[at + 3]).data(), true));
  }
}

TEST(CommandSet, unknown_commands_are_told_to_be_unknown) {
  EXPECT_EQ(*supported_operation_codes(ask(1, 0x48).data(), true),
            (std::vector<std::uint8_t>{0, 1, 0, 0}));
  EXPECT_EQ((*supported_operation_codes(ask(3, 0x9e, 0x11).data(), true))[1], 1);
  EXPECT_EQ((*supported_operation_codes(ask(3, 0x9e, 0x12).data(), true))[1], 3);
  EXPECT_EQ((*supported_operation_codes(ask(3, 0x28, 1).data(), true))[1], 1)
      << "a service action of a command that has none";
  EXPECT_FALSE(supported_operation_codes(ask(4).data(), true));
}

TEST(CommandSet, target_port_groups_are_told_of_where_there_are_some) {
  EXPECT_EQ((*supported_operation_codes(ask(3, 0xa3, 0x0a).data(), true))[1], 3);
  EXPECT_EQ((*supported_operation_codes(ask(3, 0xa3, 0x0a).data(), false))[1], 1);
  EXPECT_EQ(supported_operation_codes(ask(0).data(), true)->size(),
            supported_operation_codes(ask(0).data(), false)->size() + 8);
}

}  // namespace
}  // namespace clonedev::scsi
