// The whole engine against a model of what a disk may show, on random disks with random trouble.
//
//   CLONE_TEST_SEED=N     one run, the one with this seed
//   CLONE_TEST_ROUNDS=N   that many times the usual number of runs

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "clonedev/clone_device.h"
#include "shadow_run.h"

namespace clonedev {
namespace {

constexpr std::uint64_t kRuns = 50;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

void print(const ShadowRun::Counts& counts) {
  fmt::print(
      "{} disks, {} requests ({} reads, {} writes, {} zeroings, {} COMPARE AND WRITE, {} flushes), "
      "{} not done ({} BUSY), {} faults; {} kills, {} power cuts, {} closes, {} finished images, "
      "{} copied blocks looked at, {} "
      "verifications\n",
      counts.runs, counts.requests, counts.reads, counts.writes, counts.zeroings, counts.compares,
      counts.flushes, counts.refused, counts.busy, counts.faults, counts.kills, counts.cuts,
      counts.closes, counts.images, counts.marks, counts.verifications);
}

void run(std::uint64_t seed, ShadowRun::Counts& counts) {
  ShadowRun disk(seed, counts);
  const std::string wrong = disk.run();
  EXPECT_EQ(wrong, "") << disk.description() << "\nrepeat it with CLONE_TEST_SEED=" << seed;
}

// The group's number is part of the seed, so that groups can run side by side.
class Shadow : public testing::TestWithParam<std::uint64_t> {
 protected:
  void SetUp() override {
    set_log_sink([](int, const char*) {});
  }
};

TEST_P(Shadow, every_sector_is_legal_at_every_moment_and_after_every_death) {
  ShadowRun::Counts counts;
  if (const std::uint64_t seed = from_environment("CLONE_TEST_SEED", 0)) {
    run(seed, counts);
  } else {
    const std::uint64_t runs = kRuns * from_environment("CLONE_TEST_ROUNDS", 1);
    for (std::uint64_t i = 1; i <= runs && !HasFailure(); ++i)
      run(GetParam() * 1'000'000 + i, counts);
  }
  print(counts);
}

INSTANTIATE_TEST_SUITE_P(Groups, Shadow, testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace clonedev
