// Races of a few requests on three blocks, in every order that deviates from the ordinary one in a
// bounded number of decisions, and in many more by seed.
//
//   CLONE_TEST_SCHEDULE=SCENARIO/NAME   one schedule only, as a failure prints it
//   CLONE_TEST_DEVIATIONS=N             up to so many (release: 2), where there is an incident one
//                                       less; each more costs some fifty times as much
//   CLONE_TEST_ROUNDS=N                 that many times the usual number of seeds

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "clonedev/clone_device.h"
#include "schedule_run.h"

namespace clonedev {
namespace {

#ifdef NDEBUG
constexpr std::uint64_t kSeeds = 120;
constexpr std::uint64_t kDeviations = 2;
#else  // The sanitizers' builds are ten times slower.
constexpr std::uint64_t kSeeds = 20;
constexpr std::uint64_t kDeviations = 1;
#endif

const Scenario kScenarios[] = {
    {"copy_write_discard", "", "wd", true, Incident::none},
    {"copy_discard_write", "", "dwf", true, Incident::none},
    {"copy_partial_discard", "", "pd", true, Incident::none},
    {"copy_compare_write", "", "cwf", true, Incident::none},
    {"copy_across_zero", "", "xy", true, Incident::none},
    {"partial_write_discard", "", "pwd", false, Incident::none},
    {"compare_twice_write", "", "ccw", false, Incident::none},
    {"reads_between", "", "gwdg", true, Incident::none},
    {"flushes_share", "w", "fufpf", false, Incident::none},
    {"commit_undone_by_write", "Wf", "dfu", false, Incident::none},
    {"commit_undone_by_zero", "zfW", "fv", false, Incident::none},
    {"commit_meets_all", "zf", "fufd", false, Incident::none},
    {"completion_discard_write", "We", "dpf", true, Incident::none},
    {"completion_compare", "We", "cuz", true, Incident::none},
    {"close_busy", "", "pwf", true, Incident::close},
    {"close_discard", "z", "xdu", true, Incident::close},
    {"close_complete", "We", "df", true, Incident::close},
    {"hydration_on_off", "", "wdf", true, Incident::hydration},
    {"hydration_off_on", "z", "pdf", false, Incident::hydration},
    {"threshold_changes", "", "pd", true, Incident::threshold},
    {"passdown_changes", "", "dwd", true, Incident::passdown},
    {"timeout_changes", "", "pcx", true, Incident::origin_timeout},
    {"origin_lost", "", "pxg", true, Incident::origin_lost},
    {"origin_lost_compare", "", "cyf", true, Incident::origin_lost},
    {"origin_stalls", "", "pxd", true, Incident::origin_stalls},
    {"flush_fails", "w", "fuf", false, Incident::flush_fails},
    {"flush_fails_copy", "", "wfd", true, Incident::flush_fails},
    {"death", "z", "pudf", true, Incident::death},
    {"death_complete", "We", "dwf", true, Incident::death},
};

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

class Schedules : public testing::TestWithParam<Scenario> {
 protected:
  Schedules() {
    set_log_sink([](int, const char*) {});
    disk_.config.size = disk_.window.length;
    fresh_ = std::make_unique<CloneRig>(disk_.config);
    (void)fresh_->close();
  }

  struct Disk {
    RigConfig config;
    Extent window{0, 3 * kBlockSize};
  };

  Choices try_schedule(Choices choices) {
    ++schedules_;
    ScheduleRun run(GetParam(), *fresh_, choices, judge_);
    const std::string wrong = run.run();
    if (!wrong.empty() && wrong_++ == 0) {
      ADD_FAILURE() << wrong << "\nrepeat it with CLONE_TEST_SCHEDULE=" << GetParam().name << "/"
                    << choices.name();
    }
    decisions_ += choices.made().size();
    return choices;
  }

  // All that deviate up to `more` times more than this one, later than it does.
  void explore(const Choices::Deviations& deviations, std::uint64_t more) {
    const Choices tried = try_schedule(Choices(deviations));
    const std::size_t first = deviations.empty() ? 0 : deviations.back().at + 1;
    for (std::size_t at = first; more > 0 && at < tried.made().size(); ++at) {
      for (std::size_t choice = 1; choice < tried.made()[at]; ++choice) {
        Choices::Deviations next = deviations;
        next.push_back({at, choice});
        explore(next, more - 1);
      }
    }
  }

  void TearDown() override {
    const double seconds = static_cast<double>(std::clock() - began_) / CLOCKS_PER_SEC;
    fmt::print(
        "{}: {} schedules ({} exhaustively) with {} decisions, {} power cuts with {} contents of "
        "the metadata, {} kills, in {:.1f} s of processor time; {} went wrong\n",
        GetParam().name, schedules_, exhaustively_, decisions_, counts_.points, counts_.images,
        counts_.kills, seconds, wrong_);
  }

  Disk disk_;
  std::unique_ptr<CloneRig> fresh_;
  CrashJudge::Counts counts_;
  CrashJudge judge_{{}, counts_};
  std::uint64_t schedules_ = 0;
  std::uint64_t wrong_ = 0;  // Only the first one is told.
  std::uint64_t exhaustively_ = 0;
  std::uint64_t decisions_ = 0;
  std::clock_t began_ = std::clock();
};

TEST_P(Schedules, whatever_comes_first_every_request_ends_and_every_sector_is_legal) {
  const Scenario& scenario = GetParam();
  if (const char* text = std::getenv("CLONE_TEST_SCHEDULE")) {
    const std::string name(text);
    const std::size_t slash = name.find('/');
    if (name.substr(0, slash) == scenario.name)
      try_schedule(Choices::named(name.substr(slash + 1)));
    return;
  }
  const std::uint64_t most = from_environment("CLONE_TEST_DEVIATIONS", kDeviations);
  const bool incident = scenario.incident != Incident::none;
  explore({}, std::max(most - incident, std::uint64_t{1}));
  exhaustively_ = schedules_;
  const std::uint64_t seeds = kSeeds * from_environment("CLONE_TEST_ROUNDS", 1);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) try_schedule(Choices(seed));
}

INSTANTIATE_TEST_SUITE_P(Races, Schedules, testing::ValuesIn(kScenarios),
                         [](const auto& scenario) { return scenario.param.name; });

}  // namespace
}  // namespace clonedev
