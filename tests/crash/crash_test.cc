// Every crash of every short history of a tiny disk, and of many long ones by seed.
//
//   CLONE_TEST_WORD=DISK:WORD   one history only, as a failure prints it
//   CLONE_TEST_LENGTH=N         all words of up to N letters on the plain disk (release: 3), up to
//                               N - 1 on the other ones; each letter more costs 17 times as much
//   CLONE_TEST_ROUNDS=N         that many times the usual number of long histories
//   CLONE_TEST_SEED=N           another seed for them

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>

#include "clonedev/clone_device.h"
#include "crash_run.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

constexpr std::string_view kLetters = "wWpxeudzycfhtrkna";
constexpr std::string_view kOverlapping = "wWpxeudzycfht";  // Those that need not be waited for.

#ifdef NDEBUG
constexpr std::uint64_t kLength = 3;
constexpr std::uint64_t kLongWords = 300;
// What was there before two letters overlap: nothing, something, all but a completion (of copies,
// or of blocks that are still to be zeroed).
constexpr const char* kBefore[] = {"", "z", "h", "We", "de"};
constexpr bool kOverlapsOnAllDisks = true;
#else  // The sanitizers' builds are ten times slower.
constexpr std::uint64_t kLength = 2;
constexpr std::uint64_t kLongWords = 20;
constexpr const char* kBefore[] = {""};
constexpr bool kOverlapsOnAllDisks = false;
#endif

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

CrashDisk disk_named(const std::string& name) {
  CrashDisk disk{name, {}, {0, 3 * k4K}};
  RigConfig& config = disk.config;
  config.size = 3 * k4K;
  config.options.hydration_threshold = config.options.hydration_batch_size = 1;
  if (name == "4kn") config.sector_size = 4096;
  if (name == "odd") {  // No multiple of 4 KiB, and the origin ends in mid-block.
    config.size = disk.window.length = 2 * k4K + 3 * 512;
    config.origin_size = k4K + 1000;
  }
  if (name == "pages" || name == "nodes") {  // The first two blocks lie on two state pages.
    const std::uint64_t border = name == "pages" ? 1 : kNodeRefs;
    disk.window.offset = border * kPageCoversBytes - k4K;
    config.size = disk.window.end();
    config.origin_size = k4K;
  }
  return disk;
}

class CrashEnumeration : public testing::TestWithParam<const char*> {
 protected:
  CrashEnumeration() : disk_(disk_named(GetParam())), fresh_(CrashRun::fresh_rig(disk_)) {
    set_log_sink([](int, const char*) {});
  }

  // Whether the last letter with a digit was overtaken by the next one.
  bool try_word(const std::string& word) {
    ++words_;
    judge_.look_at(disk_.window);
    CrashRun run(disk_, *fresh_, judge_);
    const std::string wrong = run.run(word);
    if (!wrong.empty() && wrong_++ == 0) {
      ADD_FAILURE() << wrong << "\nrepeat it with CLONE_TEST_WORD=" << disk_.name << ":" << word;
    }
    return run.overlapped();
  }

  // Only the one that the environment names. True: that was all.
  bool replay() {
    const char* text = std::getenv("CLONE_TEST_WORD");
    if (!text) return false;
    const std::string word(text);
    const std::size_t colon = word.find(':');
    if (word.substr(0, colon) == disk_.name) try_word(word.substr(colon + 1));
    return true;
  }

  // Calls it with every word of that many letters.
  void each_word(std::uint64_t length, const std::string& begin) {
    if (length == 0) {
      try_word(begin);
      return;
    }
    for (const char letter : kLetters) each_word(length - 1, begin + letter);
  }

  void TearDown() override {
    const double seconds = static_cast<double>(std::clock() - began_) / CLOCKS_PER_SEC;
    const auto tried = counts_.opened + counts_.recoveries + counts_.kills + counts_.engines;
    fmt::print(
        "{}: {} histories ({} went wrong), {} crash points, {:.3g} crash states; {} contents of "
        "the metadata, {} "
        "of them different and opened, {} opened after a second crash, {} by a whole engine, {} "
        "kills: {} openings in {:.1f} s of processor time, {:.0f} a minute\n",
        disk_.name, words_, wrong_, counts_.points, counts_.states, counts_.images, counts_.opened,
        counts_.recoveries, counts_.engines, counts_.kills, tried, seconds,
        60 * static_cast<double>(tried) / seconds);
  }

  CrashDisk disk_;
  std::unique_ptr<CloneRig> fresh_;
  CrashJudge::Counts counts_;
  CrashJudge judge_{{}, counts_};
  std::uint64_t words_ = 0;
  std::uint64_t wrong_ = 0;  // Only the first one is told.
  std::clock_t began_ = std::clock();
};

TEST_P(CrashEnumeration, whatever_a_short_history_leaves_is_legal) {
  if (replay()) return;
  const bool plain = disk_.name == "plain";
  const std::uint64_t longest = from_environment("CLONE_TEST_LENGTH", kLength) - (plain ? 0 : 1);
  for (std::uint64_t length = 1; length <= longest; ++length) each_word(length, "");
}

// One begins while the other is under way, at each moment of it.
TEST_P(CrashEnumeration, whatever_two_overlapping_requests_leave_is_legal) {
  if (replay()) return;
  for (const std::string before : kBefore) {
    if (disk_.name != "plain" && (!kOverlapsOnAllDisks || !before.empty())) break;
    for (const char one : kOverlapping) {
      for (const char other : kLetters) {
        for (char moment = '0'; moment <= '9'; ++moment) {
          if (!try_word(before + one + moment + other)) break;
        }
      }
    }
  }
}

TEST_P(CrashEnumeration, whatever_a_long_history_leaves_is_legal) {
  if (replay()) return;
  const std::uint64_t seed = from_environment("CLONE_TEST_SEED", 20261125);
  const std::uint64_t words = kLongWords * from_environment("CLONE_TEST_ROUNDS", 1);
  std::mt19937_64 random(seed);
  fmt::print("CLONE_TEST_SEED={}\n", seed);
  for (std::uint64_t i = 0; i < words; ++i) {
    std::string word;
    for (std::uint64_t letters = 4 + random() % 16; letters > 0; --letters) {
      word += kLetters[random() % kLetters.size()];
      const bool overlaps = kOverlapping.find(word.back()) != std::string_view::npos;
      if (letters > 1 && overlaps && random() % 3 == 0)
        word += static_cast<char>('0' + random() % 6);
    }
    try_word(word);
  }
}

INSTANTIATE_TEST_SUITE_P(Disks, CrashEnumeration,
                         testing::Values("plain", "4kn", "odd", "pages", "nodes"),
                         [](const auto& disk) { return std::string(disk.param); });

}  // namespace
}  // namespace clonedev
