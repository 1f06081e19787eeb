#include "outage_bed.h"

#include <stdlib.h>

#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "origin/nbd_dial.h"

namespace clonedev {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(60);  // Of the test: longer means never.
constexpr auto kLongestClose = std::chrono::seconds(3);

std::string random_disk(std::size_t length) {
  std::mt19937_64 random(7);
  std::string bytes(length, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string make_folder(std::string pattern) { return ::mkdtemp(pattern.data()); }

}  // namespace

OutageCommand::OutageCommand(std::string bytes)
    : bytes_(std::move(bytes)), list_{bytes_.data(), bytes_.size()} {}

Completion OutageCommand::completion() {
  return {[](void* context, const Result<>& outcome) {
            static_cast<std::promise<Result<>>*>(context)->set_value(outcome);
          },
          &ended_};
}

Result<> OutageCommand::outcome() {
  if (future_.wait_for(kPatience) != std::future_status::ready) std::abort();
  return future_.get();
}

OutageBed::OutageBed()
    : disk_(random_disk(kDisk)),
      folder_(make_folder(SCRATCH_DIR "/outage-XXXXXX")),
      run_(make_folder("/dev/shm/outage-XXXXXX")) {
  options_.dest = folder_ / "dest";
  options_.meta = folder_ / "meta";
  options_.hydration = false;
  options_.origin_timeout_ms = 2000;
}

OutageBed::~OutageBed() {
  if (device_) device_->close();
  // A thread that gave up dialling is let out of GnuTLS before this process ends.
  for (int i = 0; i < 200 && NbdDial::under_way() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  fs::remove_all(folder_);
  fs::remove_all(run_);
}

Result<std::unique_ptr<CloneDevice>> OutageBed::try_to_open() {
  return CloneDevice::open(OpenRequest{"vm", kDisk, options_, {folder_ / "state", run_, false}});
}

void OutageBed::open() {
  auto device = try_to_open();
  ASSERT_TRUE(device) << device.error().message();
  device_ = std::move(*device);
}

void OutageBed::close_within_three_seconds() {
  const auto began = Clock::now();
  EXPECT_TRUE(device_->close());
  EXPECT_LT(Clock::now() - began, kLongestClose);
}

std::unique_ptr<OutageCommand> OutageBed::begin_read(std::uint64_t block) {
  auto command = std::make_unique<OutageCommand>(std::string(kBlock, '\0'));
  device_->read({block * kBlock, kBlock}, command->data(), command->completion());
  return command;
}

Result<> OutageBed::read(std::uint64_t block, const std::string& expected) {
  const auto command = begin_read(block);
  auto outcome = command->outcome();
  if (outcome) {
    EXPECT_TRUE(command->bytes() == expected) << "block " << block << " is wrong";
  }
  return outcome;
}

Result<> OutageBed::write(std::uint64_t offset, std::size_t length) {
  OutageCommand command(std::string(length, 'w'));
  device_->write({offset, length}, command.data(), false, command.completion());
  return command.outcome();
}

Result<> OutageBed::flush() {
  OutageCommand command("");
  device_->flush(command.completion());
  return command.outcome();
}

void OutageBed::say(OriginLoss loss) {
  options_.on_origin_loss = loss;
  ASSERT_TRUE(device_->reconfigure(options_));
}

void OutageBed::becomes_well(std::uint64_t block) {
  Result<> outcome;
  for (const auto until = Clock::now() + kPatience; Clock::now() < until;) {
    outcome = read(block, of_origin(block));
    if (outcome || outcome.error().code != Errc::busy) break;
  }
  EXPECT_TRUE(outcome) << outcome.error().message();
}

}  // namespace clonedev
