// The Lun over a clone in memory: what the runner is told, when, and how often.
#include "lun.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "steps/deallocation.h"
#include "steps/or_write.h"
#include "steps/repetition.h"
#include "support/memory_clone.h"
#include "support/runner_host.h"

namespace clonedev {
namespace {

using testing::Bytes;
using testing::MemoryCloneControl;

// A command of the runner, reduced to what a Lun touches.
struct Command {
  explicit Command(std::vector<std::uint8_t> block) : cdb(std::move(block)) {
    lib.cdb = cdb.data();
    std::fill(std::begin(lib.sense_buf), std::end(lib.sense_buf), std::uint8_t{0xee});
    cmd.lib_cmd = &lib;
    cmd.cmd_state = this;
    cmd.done = [](tcmu_device*, tcmur_cmd* done, int outcome) {
      auto* const self = static_cast<Command*>(done->cmd_state);
      const std::lock_guard lock(self->mutex);
      self->status = outcome;
      ++self->completions;
      ::pthread_getname_np(::pthread_self(), self->thread, sizeof(self->thread));
      self->ended.notify_all();
    };
  }

  int wait() {
    std::unique_lock lock(mutex);
    ended.wait_for(lock, std::chrono::seconds(20), [this] { return completions > 0; });
    return completions == 1 ? status : -100;
  }

  std::vector<std::uint8_t> cdb;
  tcmulib_cmd lib{};
  tcmur_cmd cmd{};
  std::mutex mutex;
  std::condition_variable ended;
  int status = -99;
  int completions = 0;
  char thread[16] = {};  // That completed it.
};

class LunTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kSize = 8 << 20;

  LunTest() { testing::take_log(); }

  std::vector<std::string> what_was_done() const {
    std::vector<std::string> names;
    for (const auto& call : control_->calls()) names.push_back(call.what);
    return names;
  }

  static DeviceCommand write_same(const Bytes& block, Extent extent) {
    return {Operation::write_same, Repetition::make(std::as_bytes(std::span(block)), extent)};
  }
  static DeviceCommand unmap(std::vector<Extent> extents) {
    return {Operation::unmap, std::make_unique<Deallocation>(std::move(extents))};
  }

  std::shared_ptr<MemoryCloneControl> control_ = std::make_shared<MemoryCloneControl>(kSize);
  Lun lun_{nullptr, "vm1", Options{}, testing::make_memory_clone(control_)};
};

TEST_F(LunTest, write_then_read_returns_what_was_written) {
  Bytes data(8192, 0x5a);
  iovec out{data.data(), data.size()};
  Command write({0x8a, 0});
  ASSERT_EQ(lun_.write(&write.cmd, {&out, 1}, {4096, 8192}), TCMU_STS_OK);
  EXPECT_EQ(write.wait(), TCMU_STS_OK);
  Bytes back(8192);
  iovec in{back.data(), back.size()};
  Command read({0x88, 0});
  ASSERT_EQ(lun_.read(&read.cmd, {&in, 1}, {4096, 8192}), TCMU_STS_OK);
  EXPECT_EQ(read.wait(), TCMU_STS_OK);
  EXPECT_EQ(back, data);
}

TEST_F(LunTest, fua_reaches_the_device) {
  Bytes data(512);
  iovec out{data.data(), data.size()};
  Command plain({0x8a, 0x00});
  Command forced({0x8a, 0x08});
  lun_.write(&plain.cmd, {&out, 1}, {0, 512});
  plain.wait();
  lun_.write(&forced.cmd, {&out, 1}, {0, 512});
  forced.wait();
  EXPECT_FALSE(control_->calls()[0].fua);
  EXPECT_TRUE(control_->calls()[1].fua);
}

TEST_F(LunTest, nothing_is_completed_on_the_callers_stack) {
  control_->hold();
  Command flush({0x91});
  ASSERT_EQ(lun_.flush(&flush.cmd), TCMU_STS_OK);
  Command empty({0x88, 0});
  ASSERT_EQ(lun_.read(&empty.cmd, {}, {0, 0}), TCMU_STS_OK);
  EXPECT_EQ(empty.wait(), TCMU_STS_OK) << "a read of nothing needs no device";
  EXPECT_EQ(flush.completions, 0);
  control_->release();
  EXPECT_EQ(flush.wait(), TCMU_STS_OK);
}

TEST_F(LunTest, only_a_small_command_without_company_is_completed_where_it_ended) {
  const std::string completer = "clone-complete";
  std::vector<std::byte> memory(128 << 10);
  iovec data{memory.data(), 4096};
  Command alone({0x88, 0});
  lun_.read(&alone.cmd, {&data, 1}, {0, 4096});
  EXPECT_EQ(alone.wait(), TCMU_STS_OK);
  EXPECT_NE(alone.thread, completer);

  control_->hold();
  Command first({0x88, 0});
  Command second({0x88, 0});
  lun_.read(&first.cmd, {&data, 1}, {0, 4096});
  lun_.read(&second.cmd, {&data, 1}, {0, 4096});
  control_->release();
  EXPECT_EQ(first.wait(), TCMU_STS_OK);
  EXPECT_EQ(first.thread, completer) << "another one waits for that thread";
  EXPECT_EQ(second.wait(), TCMU_STS_OK);

  Command failed({0x88, 0});
  control_->fail_next("read", {make_error_code(Errc::origin_read), "bad sector"});
  lun_.read(&failed.cmd, {&data, 1}, {0, 4096});
  EXPECT_NE(failed.wait(), TCMU_STS_OK);
  EXPECT_EQ(failed.thread, completer);

  Command large({0x88, 0});
  data.iov_len = memory.size();
  lun_.read(&large.cmd, {&data, 1}, {0, memory.size()});
  EXPECT_EQ(large.wait(), TCMU_STS_OK);
  EXPECT_EQ(large.thread, completer);
}

TEST_F(LunTest, write_same_of_zeroes_keeps_space_unless_unmap_was_set) {
  const Extent extent{0, 4 << 20};
  Command keep({0x93, 0});
  lun_.run(&keep.cmd, {Operation::write_same, std::make_unique<ZeroRange>(extent, Zeroing::keep)});
  EXPECT_EQ(keep.wait(), TCMU_STS_OK);
  Command give_back({0x93, 0});
  lun_.run(&give_back.cmd,
           {Operation::write_same, std::make_unique<ZeroRange>(extent, Zeroing::deallocate)});
  EXPECT_EQ(give_back.wait(), TCMU_STS_OK);
  EXPECT_EQ(what_was_done(), (std::vector<std::string>{"zero-keep", "zero-deallocate"}));
}

TEST_F(LunTest, write_same_of_a_pattern_writes_it_everywhere_in_bounded_steps) {
  Bytes block(512);
  for (std::size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::uint8_t>(i * 7 + 1);
  // Neither a multiple of a step nor of the pattern buffer.
  const Extent extent{512, (3 << 20) + 512 * 5};
  Command command({0x93, 0});
  ASSERT_EQ(lun_.run(&command.cmd, write_same(block, extent)), TCMU_STS_OK);
  EXPECT_EQ(command.wait(), TCMU_STS_OK);
  const auto written = control_->bytes(extent);
  for (std::size_t i = 0; i < written.size(); ++i) {
    ASSERT_EQ(std::to_integer<int>(written[i]), block[i % 512]) << "byte " << i;
  }
  EXPECT_EQ(control_->bytes({0, 512}), std::vector<std::byte>(512));
  EXPECT_EQ(control_->bytes({extent.end(), 512}), std::vector<std::byte>(512));
  const auto calls = control_->calls();
  EXPECT_EQ(calls.size(), 4U);
  for (const auto& call : calls) EXPECT_LE(call.extent.length, 1U << 20);
}

TEST_F(LunTest, failed_step_ends_a_write_same_once) {
  control_->fail_next("write", Error{make_error_code(Errc::no_space), "full"});
  const Bytes block(512, 9);
  Command command({0x93, 0});
  lun_.run(&command.cmd, write_same(block, {0, 4 << 20}));
  EXPECT_EQ(command.wait(), TCMU_STS_PASSTHROUGH_ERR);
  EXPECT_EQ(what_was_done().size(), 1U);
  EXPECT_EQ(command.lib.sense_buf[2], 0x07);
}

// An initiator that is told BUSY or TASK SET FULL counts on nothing having been written.
TEST_F(LunTest, a_write_same_that_has_begun_is_not_busy_any_more) {
  const Bytes block(512, 9);
  for (const Errc code : {Errc::busy, Errc::live_map_full}) {
    control_->fail_next("write", Error{make_error_code(code), "the origin is away"});
    Command first({0x93, 0});
    lun_.run(&first.cmd, write_same(block, {0, 4 << 20}));
    EXPECT_EQ(first.wait(), code == Errc::busy ? TCMU_STS_BUSY : TCMU_STS_NO_RESOURCE);
    control_->fail_next("write", Error{make_error_code(code), "the origin is away"}, 1, 1);
    Command second({0x93, 0});
    lun_.run(&second.cmd, write_same(block, {0, 4 << 20}));
    EXPECT_EQ(second.wait(), TCMU_STS_WR_ERR);
  }
}

// The kernel gives a command up after a while; what its initiator writes then must stay.
TEST_F(LunTest, no_step_begins_when_the_kernel_may_have_given_the_command_up) {
  Options options;
  options.origin_timeout_ms = 29'000;  // Which leaves half a second.
  Lun impatient(nullptr, "vm2", options, testing::make_memory_clone(control_));
  const Bytes block(512, 9);
  control_->hold();
  Command command({0x93, 0});
  impatient.run(&command.cmd, write_same(block, {0, 4 << 20}));
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  control_->release();
  EXPECT_EQ(command.wait(), TCMU_STS_WR_ERR) << "its first step has had an effect";
  EXPECT_EQ(what_was_done().size(), 1U);
}

TEST_F(LunTest, failed_discard_becomes_plain_zeroing) {
  control_->fail_next("zero-deallocate", Error{make_error_code(Errc::destination_write), "no"});
  Command command({0x42});
  lun_.run(&command.cmd, unmap({{0, 65536}}));
  EXPECT_EQ(command.wait(), TCMU_STS_OK);
  EXPECT_EQ(what_was_done(), (std::vector<std::string>{"zero-deallocate", "zero-keep"}));
}

TEST_F(LunTest, discard_that_fails_twice_ends_and_is_logged) {
  const Error error{make_error_code(Errc::destination_write), "dest: EIO: see the kernel log"};
  control_->fail_next("zero-deallocate", error);
  control_->fail_next("zero-keep", error);
  Command command({0x42});
  lun_.run(&command.cmd, unmap({{0, 65536}}));
  EXPECT_EQ(command.wait(), TCMU_STS_WR_ERR) << "the initiator hears of it";
  const auto log = testing::take_log();
  ASSERT_EQ(log.size(), 1U) << "one line a second";
  EXPECT_EQ(log[0], "warning: vm1: unmap failed: dest: EIO: see the kernel log\n");
}

TEST_F(LunTest, an_unmap_that_the_clone_cannot_take_now_is_not_tried_twice) {
  control_->fail_next("zero-deallocate", Error{make_error_code(Errc::busy), "the origin is away"});
  Command first({0x42});
  lun_.run(&first.cmd, unmap({{0, 4096}, {8192, 4096}}));
  EXPECT_EQ(first.wait(), TCMU_STS_BUSY);
  EXPECT_EQ(what_was_done().size(), 1U);
  control_->fail_next("zero-deallocate", Error{make_error_code(Errc::busy), "no"}, 1, 1);
  Command second({0x42});
  lun_.run(&second.cmd, unmap({{0, 4096}, {8192, 4096}}));
  EXPECT_EQ(second.wait(), TCMU_STS_WR_ERR) << "its first range has gone";
}

TEST_F(LunTest, an_or_write_begins_anew_when_another_write_comes_in_between) {
  Bytes data(512, 0x0f);
  iovec out{data.data(), data.size()};
  control_->fail_next("compare_and_write", Error{make_error_code(Errc::miscompare), "", 3});
  Command command({0x8b, 0});
  lun_.run(&command.cmd, {Operation::or_write, OrWrite::make({512, 512}, {&out, 1}, false)});
  EXPECT_EQ(command.wait(), TCMU_STS_OK);
  EXPECT_TRUE(lun_.close().has_value());
  const std::vector<std::string> once{"read", "compare_and_write", "answered"};
  std::vector<std::string> twice = once;
  twice.insert(twice.end(), once.begin(), once.end());
  EXPECT_EQ(what_was_done(), twice);
  EXPECT_EQ(control_->bytes({512, 512}), std::vector<std::byte>(512, std::byte{0x0f}));
}

TEST_F(LunTest, miscompare_tells_where_and_is_not_logged) {
  Bytes both(1024, 0);
  both[7] = 1;
  iovec data{both.data(), both.size()};
  Command command({0x89, 0});
  lun_.compare_and_write(&command.cmd, {&data, 1}, {0, 512});
  EXPECT_EQ(command.wait(), TCMU_STS_MISCOMPARE);
  EXPECT_EQ(command.lib.sense_buf[0], 0x80);
  EXPECT_EQ(command.lib.sense_buf[6], 7);
  EXPECT_TRUE(testing::take_log().empty());
}

// What was answered need not succeed again after a restart.
TEST_F(LunTest, an_answered_compare_and_write_is_forgotten) {
  Bytes both(1024);
  iovec data{both.data(), both.size()};
  Command command({0x89, 0});
  ASSERT_EQ(lun_.compare_and_write(&command.cmd, {&data, 1}, {0, 512}), TCMU_STS_OK);
  EXPECT_EQ(command.wait(), TCMU_STS_OK);
  EXPECT_TRUE(lun_.close().has_value());
  EXPECT_EQ(what_was_done(), (std::vector<std::string>{"compare_and_write", "answered"}));
}

TEST_F(LunTest, closed_lun_answers_for_itself) {
  EXPECT_TRUE(lun_.message("enable_hydration").has_value());
  EXPECT_TRUE(lun_.close().has_value());
  EXPECT_EQ(lun_.status().mode, CloneMode::fail);
  EXPECT_EQ(lun_.message("enable_hydration").error().code, Errc::closed);
  EXPECT_TRUE(lun_.close().has_value());
}

TEST_F(LunTest, status_answers_while_a_close_waits_for_the_device) {
  control_->hold();
  Bytes data(512);
  iovec out{data.data(), data.size()};
  Command write({0x8a, 0});
  ASSERT_EQ(lun_.write(&write.cmd, {&out, 1}, {0, 512}), TCMU_STS_OK);
  std::thread closing([this] { EXPECT_TRUE(lun_.close().has_value()); });
  auto answered = std::async(std::launch::async, [this] {
    while (lun_.status().mode != CloneMode::fail) std::this_thread::yield();
  });
  EXPECT_EQ(answered.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(write.completions, 0);
  control_->release();
  closing.join();
  EXPECT_EQ(write.wait(), TCMU_STS_OK);
}

TEST(RunnerLog, long_message_becomes_several_whole_lines) {
  testing::take_log();
  std::string text = "vm1:";
  for (int i = 0; i < 100; ++i) text += " word" + std::to_string(i);
  runner_log(4, text + "\nforged");
  std::string joined;
  const auto lines = testing::take_log();
  EXPECT_GT(lines.size(), 2U);
  for (const std::string& line : lines) {
    EXPECT_EQ(line.back(), '\n');
    joined += line.substr(9, line.size() - 10) + " ";
  }
  EXPECT_EQ(joined, text + " forged ");
}

}  // namespace
}  // namespace clonedev
