// Runs the real clonectl against a fake daemon and a scratch configfs.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "clonedev/status.h"
#include "fake_daemon.h"

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

class ClonectlTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // CLONECTL_BINARY with these arguments and TCMU_CLONE_* pointing into the scratch folder.
  Outcome run(const std::vector<std::string>& arguments) const;

  void start_daemon(FakeDaemon::Answer answer);
  // {"ok":true,"result":RESULT}
  static std::string ok(const std::string& result);
  static std::string error(const std::string& text, const std::string& more = "");

  std::filesystem::path folder_;
  std::filesystem::path socket_;
  std::unique_ptr<FakeDaemon> daemon_;
};

std::string slurp(const std::filesystem::path& path);
void spill(const std::filesystem::path& path, const std::string& text);

// Half hydrated, running.
clonedev::Status example_status(const std::string& name);
