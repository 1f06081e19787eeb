// A few requests at once on three blocks, beside hydration and an incident, under one schedule.
//
// Everything that could come in another order is a decision (Choices): which ready coroutine runs
// next, whether an operation of a disk or the origin takes long before and after its effect, and at
// which step the incident happens. What is answered is judged by a ShadowDisk, each promise of
// durability by a CrashJudge (every power cut at that moment), the end by reading, a power cut, a
// kill, and the image after hydration to the end. All requests must have ended.
//
// Thread: one. Scenario and choices give the same run each time.
#pragma once

#include <memory>
#include <string>

#include "choices.h"
#include "crash/crash_judge.h"
#include "support/letters.h"

namespace clonedev {

enum class Incident {
  none,
  close,           // The device is closed, and opened again at the end.
  hydration,       // Live keys: on becomes off or the other way round,
  threshold,       // 1 becomes 3,
  passdown,        // on becomes off,
  origin_timeout,  // 20 s become 2 ms: slow reads are BUSY.
  origin_lost,     // The origin is away for three seconds.
  origin_stalls,   // It does not answer for three seconds.
  flush_fails,     // A flush of the destination fails; later the admin clears needs_check.
  death,           // Power cut and kill, judged; life goes on.
};

struct Scenario {
  std::string name;
  std::string before;  // Letters, one after the other, before decisions begin.
  std::string at_once;
  bool hydrate;
  Incident incident;
};

class ScheduleRun {
 public:
  ScheduleRun(const Scenario& scenario, const CloneRig& fresh, Choices& choices, CrashJudge& judge);
  ~ScheduleRun();

  // Empty: all was well.
  std::string run();

 private:
  void complain(const std::string& text);
  void request(char letter);
  void run_until_idle();
  void decide_everything();
  void decide_nothing();
  void observe();
  void happen();
  void close();
  Task<> bring_origin_back();
  Task<> mend();
  void judge_deaths();
  void judge_end();

  const Scenario& scenario_;
  Choices& choices_;
  CrashJudge& judge_;
  std::unique_ptr<CloneRig> rig_;
  ShadowDisk shadow_;
  std::unique_ptr<ShadowClient> client_;
  Options options_;
  bool happened_ = false;
  unsigned acts_ = 0;  // Under way beside the client's requests.
  std::uint64_t promises_ = 0;
  std::uint64_t steps_ = 0;
  bool stuck_ = false;
  std::string complaint_;
};

}  // namespace clonedev
