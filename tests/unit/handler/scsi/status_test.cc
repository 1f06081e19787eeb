#include "scsi/status.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace clonedev {
namespace {

struct Told {
  int status = 0;
  std::array<std::uint8_t, TCMU_SENSE_BYTES> sense{};
};

Told tell(Errc code, Operation operation, std::uint64_t detail = 0) {
  Told told;
  told.sense.fill(0xee);  // What libtcmu's heap may hold.
  told.status = to_tcmu_status(Error{make_error_code(code), "x", detail}, operation, told.sense);
  return told;
}

unsigned additional_code(const Told& told) { return told.sense[12] * 256U + told.sense[13]; }

TEST(ScsiStatus, busy_asks_the_initiator_to_retry) {
  EXPECT_EQ(tell(Errc::busy, Operation::read).status, TCMU_STS_BUSY);
  EXPECT_EQ(tell(Errc::closed, Operation::write).status, TCMU_STS_BUSY);
}

// Linux passes a hardware error up at once: no retry, and multipath fails no path for it.
TEST(ScsiStatus, lost_origin_is_a_hardware_error_with_communication_failure) {
  for (const Operation operation : {Operation::read, Operation::write, Operation::copy}) {
    const Told told = tell(Errc::origin_lost, operation);
    EXPECT_EQ(told.status, TCMU_STS_PASSTHROUGH_ERR);
    EXPECT_EQ(told.sense[2], 0x04);
    EXPECT_EQ(additional_code(told), 0x0800U);
  }
}

TEST(ScsiStatus, full_live_map_is_task_set_full) {
  EXPECT_EQ(tell(Errc::live_map_full, Operation::write).status, TCMU_STS_NO_RESOURCE);
}

TEST(ScsiStatus, full_destination_is_data_protect_space_allocation_failed) {
  const Told told = tell(Errc::no_space, Operation::write);
  EXPECT_EQ(told.status, TCMU_STS_PASSTHROUGH_ERR);
  EXPECT_EQ(told.sense[0], 0x70);
  EXPECT_EQ(told.sense[2], 0x07);
  EXPECT_EQ(additional_code(told), 0x2707U);
  EXPECT_TRUE(std::all_of(told.sense.begin() + 14, told.sense.end(),
                          [](std::uint8_t byte) { return byte == 0; }));
}

TEST(ScsiStatus, refused_write_is_write_protected) {
  const Told told = tell(Errc::refused, Operation::unmap);
  EXPECT_EQ(told.status, TCMU_STS_PASSTHROUGH_ERR);
  EXPECT_EQ(additional_code(told), 0x2700U);
}

TEST(ScsiStatus, miscompare_names_the_first_differing_byte) {
  const Told told = tell(Errc::miscompare, Operation::compare_and_write, 0x0102);
  EXPECT_EQ(told.status, TCMU_STS_MISCOMPARE);
  EXPECT_EQ(told.sense[0], 0x80);
  EXPECT_EQ(told.sense[5], 0x01);
  EXPECT_EQ(told.sense[6], 0x02);
  EXPECT_EQ(told.sense[3], 0);
  EXPECT_TRUE(std::all_of(told.sense.begin() + 7, told.sense.end(),
                          [](std::uint8_t byte) { return byte == 0; }));
}

TEST(ScsiStatus, failed_reads_and_writes_are_medium_errors) {
  EXPECT_EQ(tell(Errc::origin_read, Operation::read).status, TCMU_STS_RD_ERR);
  EXPECT_EQ(tell(Errc::origin_read, Operation::write).status, TCMU_STS_RD_ERR);
  EXPECT_EQ(tell(Errc::destination_read, Operation::read).status, TCMU_STS_RD_ERR);
  EXPECT_EQ(tell(Errc::destination_write, Operation::write).status, TCMU_STS_WR_ERR);
}

TEST(ScsiStatus, flush_that_cannot_be_durable_is_a_write_error) {
  EXPECT_EQ(tell(Errc::needs_check, Operation::flush).status, TCMU_STS_WR_ERR);
  EXPECT_EQ(tell(Errc::needs_check, Operation::write).status, TCMU_STS_WR_ERR);
}

TEST(ScsiStatus, anything_else_is_a_hardware_error) {
  EXPECT_EQ(tell(Errc::metadata_io, Operation::flush).status, TCMU_STS_HW_ERR);
  EXPECT_EQ(tell(Errc::damaged, Operation::read).status, TCMU_STS_HW_ERR);
  Told told;
  const Error foreign{std::make_error_code(std::errc::io_error), "x"};
  EXPECT_EQ(to_tcmu_status(foreign, Operation::read, told.sense), TCMU_STS_HW_ERR);
}

}  // namespace
}  // namespace clonedev
