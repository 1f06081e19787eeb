#include "schedule_run.h"

#include <fmt/format.h>

namespace clonedev {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr microseconds kQuick(1);
constexpr milliseconds kLong(5);  // Everything else that is under way ends meanwhile.
constexpr microseconds kFlushTime(100);
constexpr milliseconds kAway(3'000);
constexpr milliseconds kMoment(1);
constexpr int kMoments = 3'000;
constexpr std::uint64_t kMostSteps = 100'000;

}  // namespace

ScheduleRun::ScheduleRun(const Scenario& scenario, const CloneRig& fresh, Choices& choices,
                         CrashJudge& judge)
    : scenario_(scenario),
      choices_(choices),
      judge_(judge),
      rig_(fresh.power_cut(fresh.destination_disk->durable(), fresh.metadata_disk->durable())),
      shadow_(fresh.origin_bytes({0, fresh.destination_disk->size()})) {
  judge_.look_at({0, shadow_.size()});
  rig_->sim.set_note("CLONE_TEST_SCHEDULE=" + scenario.name + "/" + choices.name());
  options_.hydration = scenario.hydrate;
  options_.hydration_threshold = options_.hydration_batch_size = 1;
  client_ = std::make_unique<ShadowClient>(*rig_, shadow_);
}

ScheduleRun::~ScheduleRun() {
  if (stuck_) {  // What never ends cannot be taken down, and the failure shall be told.
    (void)rig_.release();
    (void)client_.release();
    return;
  }
  decide_nothing();
}

void ScheduleRun::complain(const std::string& text) {
  if (complaint_.empty() && !text.empty()) complaint_ = text;
}

std::string ScheduleRun::run() {
  if (const auto opened = rig_->open(); !opened) return opened.error().message();
  rig_->destination_disk->set_flush_time(rig_->sim, kFlushTime);
  rig_->metadata_disk->set_flush_time(rig_->sim, kFlushTime);
  for (const char letter : scenario_.before) {
    request(letter);
    run_until_idle();
  }
  happened_ = scenario_.incident == Incident::none;
  decide_everything();
  rig_->engine().apply_live(options_);
  for (const char letter : scenario_.at_once) request(letter);
  run_until_idle();
  if (!happened_) happen();
  run_until_idle();
  decide_nothing();
  if (complaint_.empty()) judge_end();
  return complaint_;
}

void ScheduleRun::request(char letter) {
  spawn(client_->serve(request_on(letter_of(letter), shadow_.size())));
}

void ScheduleRun::run_until_idle() {
  const auto idle = [this] { return acts_ == 0 && client_->under_way() == 0; };
  while (complaint_.empty() && !idle()) {
    stuck_ = !rig_->sim.step() || ++steps_ > kMostSteps;
    if (stuck_) complain("something never ends");
    if (!happened_ && choices_.now()) happen();
  }
}

void ScheduleRun::decide_everything() {
  const auto pace = [this]() -> Scheduler::Duration {
    return choices_.pick(2) == 0 ? Scheduler::Duration(kQuick) : Scheduler::Duration(kLong);
  };
  rig_->destination_slow->set_pace(pace);
  rig_->metadata_slow->set_pace(pace);
  rig_->origin->pace = pace;
  rig_->sim.set_chooser([this](std::size_t count) { return choices_.pick(count); });
  rig_->sim.set_observer([this] { observe(); });
}

void ScheduleRun::decide_nothing() {
  rig_->destination_slow->set_pace(nullptr);
  rig_->metadata_slow->set_pace(nullptr);
  rig_->origin->pace = nullptr;
  rig_->sim.set_chooser(nullptr);
  rig_->sim.set_observer(nullptr);
}

// A promise was made: the power goes.
void ScheduleRun::observe() {
  complain(client_->complaint());
  if (client_->promises() == promises_) return;
  promises_ = client_->promises();
  if (rig_->is_open() && rig_->engine().status().mode == CloneMode::rw)
    complain(judge_.power_cut(*rig_, shadow_));
}

void ScheduleRun::judge_deaths() {
  complain(judge_.power_cut(*rig_, shadow_));
  complain(judge_.kill(*rig_, shadow_));
}

// ---- incidents ----

void ScheduleRun::happen() {
  happened_ = true;
  switch (scenario_.incident) {
    case Incident::none:
      return;
    case Incident::close:
      return close();
    case Incident::hydration:
      options_.hydration = !options_.hydration;
      return rig_->engine().apply_live(options_);
    case Incident::threshold:
      options_.hydration_threshold = 3;
      return rig_->engine().apply_live(options_);
    case Incident::passdown:
      options_.discard_passdown = !options_.discard_passdown;
      return rig_->engine().apply_live(options_);
    case Incident::origin_timeout:
      options_.origin_timeout_ms = 2;
      client_->excuses.origin = true;
      return rig_->engine().apply_live(options_);
    case Incident::origin_lost:
    case Incident::origin_stalls:
      client_->excuses.origin = true;
      rig_->origin->reachable = scenario_.incident != Incident::origin_lost;
      rig_->origin->hang = scenario_.incident == Incident::origin_stalls;
      return spawn(bring_origin_back());
    case Incident::flush_fails:
      client_->excuses.durable = true;
      rig_->destination->add({.kinds = FaultyDevice::kFlush, .times = 1});
      return spawn(mend());
    case Incident::death:
      return judge_deaths();
  }
}

void ScheduleRun::close() {
  client_->excuses.origin = true;
  const ShadowDisk::Time begun = shadow_.now();
  const auto closed = rig_->close();
  if (!closed) return complain("close: " + closed.error().message());
  shadow_.flushed(begun);
  if (client_->under_way() > 0) return complain("a request was not answered before close returned");
  judge_deaths();
  if (const auto opened = rig_->open(); !opened) complain(opened.error().message());
}

Task<> ScheduleRun::bring_origin_back() {
  ++acts_;
  co_await rig_->sim.sleep_for(kAway);
  rig_->origin->reachable = true;
  rig_->origin->hang = false;
  rig_->origin->released.wake_all();
  --acts_;
}

// The admin: looks for a while whether something has failed, and clears it.
Task<> ScheduleRun::mend() {
  ++acts_;
  const auto failed = [this] { return rig_->engine().status().mode != CloneMode::rw; };
  for (int i = 0; i < kMoments && !failed(); ++i) co_await rig_->sim.sleep_for(kMoment);
  rig_->destination->clear();
  const ShadowDisk::Time begun = shadow_.now();
  const auto cleared = co_await rig_->engine().clear_needs_check();
  if (cleared) shadow_.flushed(begun);
  if (!cleared) complain("clear_needs_check: " + cleared.error().message());
  client_->excuses.durable = false;
  --acts_;
}

// ---- the end ----

void ScheduleRun::judge_end() {
  request('g');
  run_until_idle();
  complain(client_->complaint());
  judge_deaths();
  if (!complaint_.empty()) return;
  const ShadowDisk::Time begun = shadow_.now();
  rig_->hydrate_to_the_end();
  if (!rig_->flush()) return complain("the flush after hydration fails");
  shadow_.flushed(begun);
  const Extent whole{0, shadow_.size()};
  const ShadowDisk::Time read = shadow_.begin_read();
  const Bytes image = rig_->destination_disk->durable().bytes(whole);
  const std::string complaint = shadow_.end_read(read, whole, image);
  if (!complaint.empty()) complain("the finished image: " + complaint);
}

}  // namespace clonedev
