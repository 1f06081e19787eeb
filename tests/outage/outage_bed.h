// A device on real files for tests whose origin is in trouble, with requests that never wait for
// longer than a test may.
//
// Thread: the test's.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <memory>
#include <string>

#include "clonedev/clone_device.h"
#include "troubled_origin.h"

namespace clonedev {

// A request under way; has ended before the device is destroyed.
class OutageCommand {
 public:
  explicit OutageCommand(std::string bytes);
  OutageCommand(const OutageCommand&) = delete;
  OutageCommand& operator=(const OutageCommand&) = delete;

  std::span<const iovec> data() const { return {&list_, 1}; }
  Completion completion();
  Result<> outcome();  // Aborts the test when it never ends.
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  iovec list_;
  std::promise<Result<>> ended_;
  std::future<Result<>> future_ = ended_.get_future();
};

class OutageBed : public testing::Test {
 protected:
  static constexpr std::uint64_t kBlock = TroubledOrigin::kBlock;
  static constexpr std::uint64_t kDisk = std::uint64_t{2} << 20;

  OutageBed();
  ~OutageBed() override;

  Result<std::unique_ptr<CloneDevice>> try_to_open();
  void open();
  void close_within_three_seconds();

  std::unique_ptr<OutageCommand> begin_read(std::uint64_t block);
  // Of a whole block, whose content has to be as expected.
  Result<> read(std::uint64_t block, const std::string& expected);
  Result<> write(std::uint64_t offset, std::size_t length);  // Of 'w's.
  Result<> flush();
  void say(OriginLoss loss);
  // Reads again while it is BUSY; the end has to be the origin's data.
  void becomes_well(std::uint64_t block);

  // A block that nobody has touched.
  std::uint64_t absent() { return next_absent_++; }
  std::string of_origin(std::uint64_t block) const { return disk_.substr(block * kBlock, kBlock); }

  const std::string disk_;  // The origin's content.
  std::filesystem::path folder_;
  Options options_;  // Without hydration; an origin has to be named.
  std::unique_ptr<CloneDevice> device_;

 private:
  std::filesystem::path run_;
  std::uint64_t next_absent_ = 1;
};

}  // namespace clonedev
