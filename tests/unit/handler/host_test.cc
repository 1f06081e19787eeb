// The real handler_clone.so, loaded as the daemon loads it, over files: no kernel, no daemon.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <thread>

#include "metadata/disk_format.h"
#include "scsi/cdb.h"
#include "scsi/inquiry.h"
#include "scsi/status.h"
#include "support/nbd_server.h"
#include "support/plugin_site.h"

namespace clonedev::testing {
namespace {

constexpr std::uint64_t kSize = 16 << 20;

PluginSite* site = nullptr;
tcmur_handler* handler = nullptr;

std::uint8_t origin_byte(std::uint64_t at) {
  return static_cast<std::uint8_t>((at >> 12) * 31 + at * 7 + 1);
}

Bytes origin_bytes(std::uint64_t offset, std::size_t length) {
  Bytes bytes(length);
  for (std::size_t i = 0; i < length; ++i) bytes[i] = origin_byte(offset + i);
  return bytes;
}

// As a commit that failed leaves it.
void mark_needs_check(const std::string& meta) {
  std::fstream file(meta, std::ios::binary | std::ios::in | std::ios::out);
  std::vector<char> bytes(2 * kUnitBytes);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  for (const std::uint64_t slot : {0u, 1u}) {
    Unit unit;
    std::memcpy(unit.bytes.data(), bytes.data() + slot * kUnitBytes, kUnitBytes);
    auto superblock = unpack_superblock(unit, slot);
    ASSERT_TRUE(superblock) << superblock.error().message();
    superblock->needs_check = true;
    superblock->reason = "marked by a test";
    pack(*superblock, unit);
    std::memcpy(bytes.data() + slot * kUnitBytes, unit.bytes.data(), kUnitBytes);
  }
  file.seekp(0);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

Bytes with_blocks(Bytes cdb, std::size_t lba_at, std::size_t lba_bytes, std::uint64_t lba,
                  std::size_t count_at, std::size_t count_bytes, std::uint64_t count) {
  scsi::put_big_endian(&cdb[lba_at], lba, lba_bytes);
  scsi::put_big_endian(&cdb[count_at], count, count_bytes);
  return cdb;
}
Bytes cdb10(std::uint8_t opcode, std::uint8_t flags, std::uint64_t lba, std::uint64_t count) {
  return with_blocks({opcode, flags, 0, 0, 0, 0, 0, 0, 0, 0}, 2, 4, lba, 7, 2, count);
}
Bytes cdb12(std::uint8_t opcode, std::uint8_t flags, std::uint64_t lba, std::uint64_t count) {
  return with_blocks({opcode, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 2, 4, lba, 6, 4, count);
}
Bytes cdb16(std::uint8_t opcode, std::uint8_t flags, std::uint64_t lba, std::uint64_t count) {
  Bytes cdb(16);
  cdb[0] = opcode;
  cdb[1] = flags;
  return with_blocks(std::move(cdb), 2, 8, lba, 10, 4, count);
}

// Empty unless the handler has made the sense data itself.
scsi::Sense sense_of(const Reply& reply) {
  if (reply.status != TCMU_STS_PASSTHROUGH_ERR) return {};
  const auto code = static_cast<std::uint16_t>(scsi::big_endian(&reply.sense[12], 2));
  return {reply.sense[2], code};
}

class HostTest : public ::testing::Test {
 protected:
  HostTest() {
    take_log();
    static int next = 0;
    name_ = "lun" + std::to_string(next++);
    folder_ = site->folder() + "/" + name_;
    origin_ = folder_ + "/origin";
    std::filesystem::create_directory(folder_);
    const Bytes image = origin_bytes(0, kSize);
    std::ofstream(folder_ + "/origin", std::ios::binary)
        .write(reinterpret_cast<const char*>(image.data()), static_cast<std::streamsize>(kSize));
  }
  ~HostTest() override {
    lun_.reset();
    std::filesystem::remove_all(folder_);
    if (!HasFailure()) return;
    for (const std::string& line : take_log()) std::fputs(line.c_str(), stderr);
  }

  std::string config(const std::string& more = ";hydration=off") const {
    return "clone/origin=" + origin_ + ";dest=" + folder_ + "/dest;meta=" + folder_ + "/meta" +
           more;
  }

  HostLun& lun(std::uint32_t block_bytes = 512, const std::string& more = ";hydration=off") {
    HostLun::Setup setup;
    setup.name = name_;
    setup.config = config(more);
    setup.size_bytes = kSize;
    setup.block_bytes = block_bytes;
    setup.sys_dir = site->sys_dir();
    lun_.emplace(*handler, setup);
    return *lun_;
  }

  void expect_bytes(std::uint64_t offset, const Bytes& wanted) {
    const Reply reply = lun_->read(offset, wanted.size());
    EXPECT_EQ(reply.status, TCMU_STS_OK);
    EXPECT_EQ(reply.completions, 1);
    EXPECT_TRUE(reply.data == wanted) << "bytes at " << offset << " differ";
  }

  std::string name_;
  std::string folder_;
  std::string origin_;  // As in the config string.
  std::optional<HostLun> lun_;
};

TEST_F(HostTest, config_is_judged_before_anything_is_touched) {
  char* reason = nullptr;
  EXPECT_TRUE(handler->check_config(config().c_str(), &reason));
  EXPECT_FALSE(handler->check_config("clone/origin=/a;dest=/b;colour=red", &reason));
  ASSERT_NE(reason, nullptr);
  EXPECT_NE(std::strstr(reason, "colour"), nullptr) << reason;
  std::free(reason);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/dest"));
}

// Copied over NBD, compared over NBD, asked for over the control socket; and a byte that something
// else changed on the destination is found.
TEST_F(HostTest, a_verification_finds_a_byte_that_was_changed_behind_the_luns_back) {
  if (!NbdServer::available()) GTEST_SKIP() << "nbdkit is not installed";
  NbdServer server({"--filter=delay", "file", origin_, "delay-read=10ms"});
  server.start();
  origin_ = std::regex_replace(server.uri(), std::regex(":"), "%3A");
  ASSERT_EQ(lun(512, ";hydration_threshold=16;hydration_batch_size=16").open(), 0);
  using Json = nlohmann::json;
  const auto ask = [this](const std::string& before, const std::string& after = "") {
    return Json::parse(site->ask_control(before + " " + name_ + after + "\n"));
  };
  const auto until = [](auto done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!done() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_TRUE(done());
  };
  const auto verify = [&] {
    EXPECT_EQ(ask("verify", " start")["ok"], true);
    until([&] { return ask("verify")["result"]["state"] != "running"; });
    return ask("verify")["result"];
  };
  until([&] { return ask("status")["result"]["blocks"]["copied"] > 64; });
  EXPECT_EQ(ask("message", " disable_hydration")["ok"], true);
  ASSERT_EQ(lun_->write(0, Bytes(4096, 0x77)).status, TCMU_STS_OK);
  const Json equal = verify();
  EXPECT_EQ(equal["state"], "equal") << equal;
  EXPECT_GE(equal["verified_bytes"], 64 * 4096);
  EXPECT_GE(equal["skipped_bytes"], 4096) << "what the user wrote is his";

  std::fstream image(folder_ + "/dest", std::ios::in | std::ios::out | std::ios::binary);
  image.seekp(5 * 4096 + 100);
  image.put(static_cast<char>(origin_byte(5 * 4096 + 100) ^ 1));
  image.close();
  const Json different = verify();
  EXPECT_EQ(different["state"], "different") << different;
  ASSERT_EQ(different["mismatches"].size(), 1u);
  EXPECT_EQ(different["mismatches"][0]["offset"], 5 * 4096);
  EXPECT_EQ(different["mismatches"][0]["length"], 4096);
  EXPECT_EQ(ask("status")["result"]["errors"]["mismatch"], 1);
}

TEST_F(HostTest, lun_is_whole_at_once_and_keeps_what_is_written) {
  ASSERT_EQ(lun().open(), 0);
  expect_bytes(0, origin_bytes(0, 65536));
  expect_bytes(kSize - 4096, origin_bytes(kSize - 4096, 4096));
  const Bytes aligned(65536, 0xa1);
  EXPECT_EQ(lun_->write(1 << 20, aligned).status, TCMU_STS_OK);
  const Bytes sector(512, 0xb2);
  EXPECT_EQ(lun_->write(8192 + 512, sector, true).status, TCMU_STS_OK);
  EXPECT_EQ(lun_->flush().status, TCMU_STS_OK);
  const auto check = [&] {
    expect_bytes(1 << 20, aligned);
    expect_bytes(8192, origin_bytes(8192, 512));
    expect_bytes(8192 + 512, sector);
    expect_bytes(8192 + 1024, origin_bytes(8192 + 1024, 3072));
  };
  check();
  lun_->close();
  ASSERT_EQ(lun_->open(), 0) << "reopen";
  check();
}

TEST_F(HostTest, lun_with_needs_check_is_write_protected_until_it_is_cleared) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(lun_->write(4096, Bytes(4096, 0xa1)).status, TCMU_STS_OK);
  const Bytes mode_sense{0x1a, 0, 0x3f, 0, 0xff, 0};
  EXPECT_EQ(lun_->execute(mode_sense, {}, 255).data[2], 0x10) << "DPOFUA alone";
  lun_->close();
  mark_needs_check(folder_ + "/meta");
  ASSERT_EQ(lun_->open(), 0);
  const Reply mode = lun_->execute(mode_sense, {}, 255);
  EXPECT_EQ(mode.status, TCMU_STS_OK);
  EXPECT_EQ(mode.data[2], 0x90) << "WP";
  const Bytes block(4096, 0xb2);
  const Reply refused[] = {lun_->write(4096, block), lun_->write_verify(4096, block),
                           lun_->execute({0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, Bytes(24)),
                           lun_->write_same(0, 8192, Bytes(512), true),
                           lun_->compare_and_write(4096, Bytes(512, 0xa1), Bytes(512, 0xb2))};
  for (const Reply& one : refused) EXPECT_EQ(sense_of(one), scsi::kWriteProtected);
  expect_bytes(0, origin_bytes(0, 4096));
  expect_bytes(4096, Bytes(4096, 0xa1));
  const auto status = nlohmann::json::parse(site->ask_control("status " + name_ + "\n"))["result"];
  EXPECT_EQ(status["mode"], "ro");
  EXPECT_EQ(status["reason"], "marked by a test");
  site->ask_control("message " + name_ + " clear_needs_check\n");
  EXPECT_EQ(lun_->write(4096, block, true).status, TCMU_STS_OK);
  expect_bytes(4096, block);
  EXPECT_EQ(lun_->execute(mode_sense, {}, 255).data[2], 0x10);
}

TEST_F(HostTest, lun_with_ro_on_shows_write_protection_and_refuses_every_change) {
  ASSERT_EQ(lun(512, ";hydration=off;ro=on").open(), 0);
  EXPECT_EQ(lun_->execute({0x1a, 0, 0x3f, 0, 0xff, 0}, {}, 255).data[2], 0x90) << "WP";
  const Reply refused[] = {lun_->write(4096, Bytes(4096, 0xb2)),
                           lun_->execute({0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, Bytes(24)),
                           lun_->write_same(0, 8192, Bytes(512), true)};
  for (const Reply& one : refused) EXPECT_EQ(sense_of(one), scsi::kWriteProtected);
  expect_bytes(0, origin_bytes(0, 65536));
  const auto status = nlohmann::json::parse(site->ask_control("status " + name_ + "\n"))["result"];
  EXPECT_EQ(status["mode"], "ro");
  EXPECT_EQ(status["state"], "paused");
}

TEST_F(HostTest, unmapped_ranges_read_as_zeroes) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(lun_->unmap(4096, 65536).status, TCMU_STS_OK);
  expect_bytes(4096, Bytes(65536));
  expect_bytes(0, origin_bytes(0, 4096));
  EXPECT_EQ(lun_->unmap(1 << 20, 1536).status, TCMU_STS_OK);
  expect_bytes(1 << 20, Bytes(1536));
  expect_bytes((1 << 20) + 1536, origin_bytes((1 << 20) + 1536, 2560));
}

TEST_F(HostTest, write_same_with_unmap_writes_the_pattern_it_was_given) {
  ASSERT_EQ(lun().open(), 0);
  Bytes block(512, 0xc3);
  EXPECT_EQ(lun_->write_same(512, (2 << 20) + 512, block, true).status, TCMU_STS_OK);
  expect_bytes(512, Bytes((2 << 20) + 512, 0xc3));
  expect_bytes(0, origin_bytes(0, 512));
  EXPECT_EQ(lun_->write_same(0, 4 << 20, Bytes(512), true).status, TCMU_STS_OK);
  expect_bytes(0, Bytes(4 << 20));
  EXPECT_EQ(lun_->write_same(4 << 20, 4 << 20, Bytes(512), false).status, TCMU_STS_OK);
  expect_bytes(4 << 20, Bytes(4 << 20));
}

TEST_F(HostTest, compare_and_write_writes_only_over_what_it_expects) {
  ASSERT_EQ(lun().open(), 0);
  const Bytes before = origin_bytes(4096, 512);
  const Bytes after(512, 0xd4);
  EXPECT_EQ(lun_->compare_and_write(4096, before, after).status, TCMU_STS_OK);
  expect_bytes(4096, after);
  Bytes wrong = after;
  wrong[300] = 0;
  const Reply refused = lun_->compare_and_write(4096, wrong, before);
  EXPECT_EQ(refused.status, TCMU_STS_MISCOMPARE);
  EXPECT_EQ(refused.sense[5] * 256 + refused.sense[6], 300);
  expect_bytes(4096, after);
}

TEST_F(HostTest, write_verify_writes_and_reads_back) {
  ASSERT_EQ(lun().open(), 0);
  const Bytes data(8192, 0xe5);
  const Reply reply = lun_->write_verify(12288, data);
  EXPECT_EQ(reply.status, TCMU_STS_OK);
  EXPECT_EQ(reply.completions, 1);
  expect_bytes(12288, data);
  EXPECT_EQ(lun_->execute(cdb12(0xae, 0x02, 24, 16), data).status, TCMU_STS_OK);
  EXPECT_EQ(sense_of(lun_->execute(cdb12(0xae, 0x02, 24, 16), Bytes(512))),
            scsi::kInvalidFieldInCdb)
      << "too little data";
}

TEST_F(HostTest, verify_compares_what_came_along_and_says_where_it_differs) {
  ASSERT_EQ(lun().open(), 0);
  Bytes data = origin_bytes(8192, 600 * 512);
  EXPECT_EQ(lun_->execute(cdb10(0x2f, 0x02, 16, 600), data).status, TCMU_STS_OK);
  EXPECT_EQ(lun_->execute(cdb10(0x2f, 0, 16, 600)).status, TCMU_STS_OK) << "without data";
  constexpr std::size_t kWrong = 512 * 512 + 7;  // In the second piece that is read.
  data[kWrong] ^= 1;
  const Reply differs = lun_->execute(cdb10(0x2f, 0x02, 16, 600), data);
  EXPECT_EQ(differs.status, TCMU_STS_MISCOMPARE);
  EXPECT_EQ(scsi::big_endian(&differs.sense[3], 4), kWrong);
  const std::uint64_t end = kSize / 512;
  EXPECT_EQ(sense_of(lun_->execute(cdb10(0x2f, 0, end, 1))), scsi::kLbaOutOfRange);
}

TEST_F(HostTest, or_write_sets_bits_and_clears_none) {
  ASSERT_EQ(lun().open(), 0);
  constexpr std::size_t kLength = 200 * 512;  // More than one piece.
  Bytes wanted = origin_bytes(4096, kLength);
  for (std::uint8_t& byte : wanted) byte |= 0x81;
  EXPECT_EQ(lun_->execute(cdb16(0x8b, 0, 8, 200), Bytes(kLength, 0x81)).status, TCMU_STS_OK);
  expect_bytes(4096, wanted);
  expect_bytes(0, origin_bytes(0, 4096));
}

TEST_F(HostTest, short_commands_of_length_zero_move_256_blocks) {
  ASSERT_EQ(lun().open(), 0);
  const Reply read = lun_->execute({0x08, 0, 0, 8, 0, 0}, {}, 256 * 512);
  EXPECT_EQ(read.status, TCMU_STS_OK);
  EXPECT_EQ(read.data, origin_bytes(4096, 256 * 512));
  const Bytes data(256 * 512, 0x3c);
  EXPECT_EQ(lun_->execute({0x0a, 0, 0, 8, 0, 0}, data).status, TCMU_STS_OK);
  expect_bytes(4096, data);
}

TEST_F(HostTest, write_same_reaches_to_the_end_of_the_disk) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(sense_of(lun_->execute(cdb16(0x93, 0x01, 8, 16))), scsi::kInvalidFieldInCdb)
      << "NDOB: without data the kernel would let it pass by a reservation";
  const std::uint64_t end = kSize / 512;
  EXPECT_EQ(lun_->execute(cdb16(0x93, 0x08, end - 3, 0), Bytes(512, 0x11)).status, TCMU_STS_OK);
  expect_bytes(kSize - 3 * 512, Bytes(3 * 512, 0x11));
  EXPECT_EQ(sense_of(lun_->execute(cdb16(0x93, 0, end - 3, 4), Bytes(512))), scsi::kLbaOutOfRange);
  EXPECT_EQ(sense_of(lun_->execute(cdb16(0x93, 0x10, 0, 1), Bytes(512))), scsi::kInvalidFieldInCdb)
      << "ANCHOR";
}

TEST_F(HostTest, an_unmap_of_many_ranges_is_whole_or_nothing) {
  ASSERT_EQ(lun().open(), 0);
  const auto unmap = [this](std::uint64_t last) {
    Bytes list(8 + 16 * 100);
    scsi::put_big_endian(&list[2], 16 * 100, 2);
    for (std::size_t i = 0; i < 100; ++i) {
      scsi::put_big_endian(&list[8 + 16 * i], i < 99 ? 16 * i : last, 8);
      scsi::put_big_endian(&list[16 + 16 * i], 8, 4);
    }
    return lun_->execute(cdb10(0x42, 0, 0, list.size()), list);
  };
  EXPECT_EQ(sense_of(unmap(kSize / 512)), scsi::kLbaOutOfRange);
  expect_bytes(0, origin_bytes(0, 99 * 8192));
  EXPECT_EQ(unmap(16 * 99).status, TCMU_STS_OK);
  for (std::uint64_t i = 0; i < 100; ++i) {
    expect_bytes(i * 8192, Bytes(4096));
    expect_bytes(i * 8192 + 4096, origin_bytes(i * 8192 + 4096, 4096));
  }
}

TEST_F(HostTest, lba_status_tells_what_is_provisioned) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(lun_->unmap(8192, 8192).status, TCMU_STS_OK);
  const auto status = [this](std::uint64_t lba, std::size_t length) {
    return lun_->execute(cdb16(0x9e, 0x12, lba, length), {}, length);
  };
  const Reply reply = status(3, 8 + 16 * 4);
  ASSERT_EQ(reply.status, TCMU_STS_OK);
  EXPECT_EQ(scsi::big_endian(&reply.data[0], 4), 4U + 16 * 3);
  const std::array<std::array<std::uint64_t, 3>, 3> wanted{
      {{3, 13, 0}, {16, 16, 1}, {32, kSize / 512 - 32, 0}}};
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::uint8_t* const run = &reply.data[8 + 16 * i];
    EXPECT_EQ(scsi::big_endian(run, 8), wanted[i][0]);
    EXPECT_EQ(scsi::big_endian(run + 8, 4), wanted[i][1]);
    EXPECT_EQ(run[12], wanted[i][2]);
  }
  EXPECT_EQ(scsi::big_endian(&status(20, 24).data[0], 4), 20U) << "room for one";
  EXPECT_EQ(status(0, 4).status, TCMU_STS_OK);
  EXPECT_EQ(sense_of(status(kSize / 512, 24)), scsi::kLbaOutOfRange);
}

TEST_F(HostTest, extended_copy_copies_inside_of_the_lun) {
  ASSERT_EQ(lun().open(), 0);
  const auto copy = [this](std::string_view serial) {
    Bytes list(16 + 32 + 28);
    scsi::put_big_endian(&list[2], 32, 2);
    scsi::put_big_endian(&list[8], 28, 4);
    list[16] = 0xe4;
    const scsi::NaaDesignator designator = scsi::naa_designator(serial);
    std::copy(designator.begin(), designator.end(), &list[20]);
    list[48] = 0x02;
    scsi::put_big_endian(&list[48 + 10], 4096, 2);
    scsi::put_big_endian(&list[48 + 12], 8, 8);
    scsi::put_big_endian(&list[48 + 20], 16384, 8);
    return lun_->execute(cdb16(0x83, 0, 0, list.size()), list);
  };
  EXPECT_EQ(sense_of(copy("another")), scsi::kCopyTargetNotReachable);
  EXPECT_EQ(copy(HostLun::Setup{}.unit_serial).status, TCMU_STS_OK);
  expect_bytes(16384 * 512, origin_bytes(4096, 4096 * 512));
  const Reply limits = lun_->execute(cdb16(0x84, 0x03, 0, 64), {}, 64);
  EXPECT_EQ(limits.status, TCMU_STS_OK);
  EXPECT_GT(scsi::big_endian(&limits.data[10], 2), 0U);
}

TEST_F(HostTest, a_compare_and_write_of_another_length_than_one_block_is_refused) {
  ASSERT_EQ(lun().open(), 0);
  const Bytes two = origin_bytes(0, 1024);
  EXPECT_EQ(sense_of(lun_->compare_and_write(0, two, two)), scsi::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of(lun_->execute(cdb16(0x89, 0, 0, 0), Bytes(1024))), scsi::kInvalidFieldInCdb);
}

TEST_F(HostTest, protection_information_and_unknown_commands_are_refused) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(sense_of(lun_->execute(cdb10(0x28, 0x20, 0, 1), {}, 512)), scsi::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of(lun_->execute(cdb16(0x8a, 0x20, 0, 1), Bytes(512))), scsi::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of(lun_->execute(cdb10(0x48, 0, 0, 0))), scsi::kInvalidOperationCode)
      << "SANITIZE";
  EXPECT_EQ(sense_of(lun_->execute(cdb16(0x9e, 0x11, 0, 0))), scsi::kInvalidFieldInCdb);
}

TEST_F(HostTest, capacity_has_physical_blocks_of_4_kib) {
  ASSERT_EQ(lun().open(), 0);
  const Reply reply = lun_->execute(cdb16(0x9e, 0x10, 0, 32), {}, 32);
  ASSERT_EQ(reply.status, TCMU_STS_OK);
  EXPECT_EQ((scsi::big_endian(&reply.data[0], 8) + 1) * 512, kSize);
  EXPECT_EQ(scsi::big_endian(&reply.data[8], 4), 512U);
  EXPECT_EQ(512U << (reply.data[13] & 0x0f), 4096U);
  EXPECT_EQ(reply.data[14], 0xc0) << "LBPME, LBPRZ";
}

TEST_F(HostTest, many_threads_lose_no_command) {
  ASSERT_EQ(lun().open(), 0);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (std::uint64_t i = 0; i < 50; ++i) {
        const std::uint64_t at = (t << 22) + i * 8192;
        const Bytes data(4096, static_cast<std::uint8_t>(t * 50 + i));
        EXPECT_EQ(lun_->write(at, data).status, TCMU_STS_OK);
        EXPECT_TRUE(lun_->read(at, 4096).data == data);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(HostTest, lun_of_4096_byte_blocks_works) {
  ASSERT_EQ(lun(4096).open(), 0);
  EXPECT_EQ(lun_->write(8192, Bytes(4096, 1)).status, TCMU_STS_OK);
  expect_bytes(8192, Bytes(4096, 1));
  expect_bytes(12288, origin_bytes(12288, 4096));
  EXPECT_EQ(lun_->attributes().max_xfer_len, 256U);
  EXPECT_EQ(lun_->execute(cdb16(0x9e, 0x10, 0, 32), {}, 32).data[13], 0) << "physical blocks";
}

TEST_F(HostTest, other_block_sizes_are_refused_with_a_sentence) {
  EXPECT_NE(lun(1024).open(), 0);
  const auto log = take_log();
  const bool said = std::any_of(log.begin(), log.end(), [](const std::string& line) {
    return line.find("hw_block_size is 1024") != std::string::npos;
  });
  EXPECT_TRUE(said);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/dest"));
}

TEST_F(HostTest, runner_is_told_what_the_lun_can_do) {
  ASSERT_EQ(lun().open(), 0);
  const HostAttributes& told = lun_->attributes();
  EXPECT_TRUE(told.write_cache);
  EXPECT_EQ(told.max_xfer_len, 2048U);
}

TEST_F(HostTest, write_cache_off_is_told_too) {
  ASSERT_EQ(lun(512, ";hydration=off;write_cache=off").open(), 0);
  EXPECT_FALSE(lun_->attributes().write_cache);
  EXPECT_EQ(lun_->write(0, Bytes(4096, 7)).status, TCMU_STS_OK);
}

TEST_F(HostTest, identification_never_shows_the_config_string) {
  ASSERT_EQ(lun().open(), 0);
  const Reply reply = lun_->inquiry(true, 0x83);
  ASSERT_EQ(reply.status, TCMU_STS_OK);
  const std::string text(reply.data.begin(), reply.data.end());
  EXPECT_NE(text.find("LIO-ORG 0123abcd-4567"), std::string::npos);
  EXPECT_EQ(text.find("origin="), std::string::npos);
  EXPECT_EQ(sense_of(lun_->inquiry(true, 0xb3)), scsi::kInvalidFieldInCdb);
}

TEST_F(HostTest, format_unit_leaves_a_disk_of_zeroes) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(sense_of(lun_->execute({0x04, 0x80, 0, 0, 0, 0})), scsi::kInvalidFieldInCdb);
  expect_bytes(0, origin_bytes(0, 4096));
  EXPECT_EQ(lun_->execute({0x04, 0x10, 0, 0, 0, 0}, Bytes(4)).status, TCMU_STS_OK);
  expect_bytes(0, Bytes(kSize));
}

TEST_F(HostTest, restore_that_writes_everything_back_changes_nothing) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(lun_->reconfigure_config(config() + "\n"), 0);
  EXPECT_EQ(lun_->reconfigure_write_cache(false), 0);
  EXPECT_EQ(lun_->reconfigure_write_cache(true), 0);
  EXPECT_TRUE(lun_->attributes().write_cache);
}

TEST_F(HostTest, live_keys_change_and_static_keys_do_not) {
  ASSERT_EQ(lun().open(), 0);
  EXPECT_EQ(lun_->reconfigure_config(config(";hydration=off;hydration_threshold=7")), 0);
  take_log();
  EXPECT_EQ(lun_->reconfigure_config(config(";hydration=off;region_size=1m")), -EINVAL);
  const auto log = take_log();
  ASSERT_FALSE(log.empty());
  EXPECT_NE(log[0].find("region_size"), std::string::npos) << log[0];
}

TEST_F(HostTest, grows_while_it_is_open_and_does_not_shrink) {
  ASSERT_EQ(lun().open(), 0);
  take_log();
  EXPECT_EQ(lun_->reconfigure_size(kSize / 2), -EINVAL);
  const auto log = take_log();
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("cannot shrink"), std::string::npos) << log[0];
  EXPECT_EQ(lun_->reconfigure_size(kSize), 0) << "a restore writes what is so already";
  EXPECT_EQ(lun_->reconfigure_size(kSize * 2 + 100), 0) << "bytes that are no block do not count";
  expect_bytes(kSize, Bytes(4096));
  expect_bytes(0, origin_bytes(0, 4096));
  const auto status = nlohmann::json::parse(site->ask_control("status " + name_ + "\n"));
  EXPECT_EQ(status["result"]["size_bytes"], kSize * 2);
}

TEST_F(HostTest, control_socket_lists_what_is_open_and_what_failed) {
  ASSERT_EQ(lun().open(), 0);
  auto status = nlohmann::json::parse(site->ask_control("status " + name_ + "\n"));
  ASSERT_EQ(status["ok"], true);
  EXPECT_EQ(status["result"]["name"], name_);
  EXPECT_EQ(status["result"]["size_bytes"], kSize);
  lun_->close();
  EXPECT_EQ(nlohmann::json::parse(site->ask_control("status " + name_ + "\n"))["ok"], false);

  std::filesystem::remove(folder_ + "/dest");
  EXPECT_NE(lun_->open(), 0) << "a known clone without its destination";
  status = nlohmann::json::parse(site->ask_control("status " + name_ + "\n"));
  EXPECT_EQ(status["result"]["state"], "failed");
  EXPECT_NE(status["result"]["reason"], "");
}

TEST_F(HostTest, second_lun_of_one_name_is_refused_and_the_first_lives) {
  ASSERT_EQ(lun().open(), 0);
  HostLun::Setup setup;
  setup.name = name_;
  setup.config = config();
  setup.size_bytes = kSize;
  setup.sys_dir = site->sys_dir();
  HostLun second(*handler, setup);
  EXPECT_NE(second.open(), 0);
  expect_bytes(0, origin_bytes(0, 4096));
}

}  // namespace
}  // namespace clonedev::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  using namespace clonedev::testing;
  if (::testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  PluginSite here(HANDLER_CLONE_SO);
  site = &here;
  handler = here.handler();
  return handler != nullptr ? RUN_ALL_TESTS() : 1;
}
