// The fault matrix: every cell of fault_table.h is brought about and compared with what the table
// says. One test a fault of a thing; the activities are its cells.
//
//   build/release/tests/faults/faults_test                                   everything
//   ... --gtest_filter='*destination_stall'                                  one fault
//
// Prints at the end how many cells were run, and how many operations failed on purpose.

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "faults/files_bed.h"
#include "faults/memory_bed.h"

namespace clonedev {
namespace {

// Enough for the live map or the destination of a small disk, and little to fill.
constexpr const char* kSmall = "size=512k";

struct Counts {
  std::uint64_t in_memory = 0;
  std::uint64_t on_files = 0;
  std::uint64_t impossible = 0;
  std::uint64_t skipped = 0;
  std::uint64_t failed_operations = 0;
};
Counts counts;

class Summary : public testing::Environment {
 public:
  void TearDown() override {
    std::cout << "fault matrix: " << counts.in_memory << " cells in memory, " << counts.on_files
              << " on files, " << counts.impossible << " cannot exist, " << counts.skipped
              << " skipped; " << counts.failed_operations << " operations failed on purpose\n";
  }
};
[[maybe_unused]] const auto* const kSummary = testing::AddGlobalTestEnvironment(new Summary);

template <class F>
void for_all_cells(F&& f) {
  for (std::size_t target = 0; target < kTargets; ++target) {
    for (std::size_t fault = 0; fault < kFaults; ++fault) {
      for (std::size_t activity = 0; activity < kActivities; ++activity) {
        f(Cell{static_cast<Target>(target), static_cast<Fault>(fault),
               static_cast<Activity>(activity)});
      }
    }
  }
}

TEST(FaultTable, has_exactly_one_expectation_for_every_cell) {
  for_all_cells([](const Cell& cell) {
    const auto rules = fault_rules();
    const auto covering =
        std::ranges::count_if(rules, [&](const Rule& rule) { return rule.covers(cell); });
    EXPECT_EQ(covering, 1) << name_of(cell);
  });
}

TEST(FaultTable, gives_every_expectation_a_reason_and_a_way_to_bring_it_about) {
  for (const Rule& rule : fault_rules()) {
    const Expectation& expected = rule.expected;
    const bool impossible = expected.outcome == Outcome::impossible;
    const bool names_an_error =
        expected.outcome == Outcome::fails || expected.outcome == Outcome::refused;
    EXPECT_FALSE(expected.why.empty());
    EXPECT_EQ(rule.bed == Bed::none, impossible) << expected.why;
    EXPECT_EQ(expected.error.has_value(), names_an_error) << expected.why;
  }
}

using Pair = std::tuple<std::size_t, std::size_t>;

std::string pair_name(const testing::TestParamInfo<Pair>& info) {
  const auto [target, fault] = info.param;
  std::string name =
      name_of({static_cast<Target>(target), static_cast<Fault>(fault), Activity::idle});
  name.resize(name.rfind(','));
  std::erase(name, ',');
  std::ranges::replace(name, ' ', '_');
  return name;
}

class FaultMatrix : public testing::TestWithParam<Pair> {
 protected:
  static void run(const Cell& cell, const Rule& rule) {
    if (rule.bed == Bed::none) {
      ++counts.impossible;
      return;
    }
    // Really full are the live map, in all cells, and the destination as a file.
    const bool fill = cell.fault == Fault::no_space &&
                      (cell.target == Target::live_map || rule.bed == Bed::files);
    const std::unique_ptr<SmallTmpfs> tmpfs = fill ? SmallTmpfs::mount(kSmall) : nullptr;
    if (fill && !tmpfs) {
      ++counts.skipped;
      std::cout << "skipped: " << name_of(cell) << ": mounting a tmpfs is not permitted here\n";
      return;
    }
    if (rule.bed == Bed::files) {
      FilesBed(cell, tmpfs.get()).run(rule.expected);
      ++counts.on_files;
    } else {
      MemoryBed bed(cell, tmpfs.get());
      bed.run(rule.expected);
      ++counts.in_memory;
      counts.failed_operations += bed.failed_operations();
    }
  }
};

TEST_P(FaultMatrix, ends_as_the_table_says) {
  const auto [target, fault] = GetParam();
  for (std::size_t activity = 0; activity < kActivities; ++activity) {
    const Cell cell{static_cast<Target>(target), static_cast<Fault>(fault),
                    static_cast<Activity>(activity)};
    const Rule* const rule = rule_of(cell);
    SCOPED_TRACE(name_of(cell));
    ASSERT_TRUE(rule) << "no expectation";
    run(cell, *rule);
  }
}

INSTANTIATE_TEST_SUITE_P(Cells, FaultMatrix,
                         testing::Combine(testing::Range(std::size_t{0}, kTargets),
                                          testing::Range(std::size_t{0}, kFaults)),
                         pair_name);

}  // namespace
}  // namespace clonedev
