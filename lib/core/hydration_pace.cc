#include "core/hydration_pace.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using Pace = HydrationPace;

constexpr std::uint64_t kExtentsInWindow = 12;
constexpr auto kShortestRound = milliseconds(5);
constexpr auto kShortestSteadyRound = milliseconds(200);  // Of which more depends.
constexpr unsigned kSettling = 1;
constexpr double kPaid = 0.25;  // Of what a step of the window could have brought.
constexpr std::uint64_t kSmallestStep = 2;
constexpr unsigned kVainRounds = 2;
constexpr double kQueueSeconds = 0.03;
constexpr double kProbeUp = 1.5;
constexpr double kProbeDown = 0.7;
constexpr double kPays = 1.05;     // Of goodput, in a larger window.
constexpr double kStays = 0.98;    // Of goodput, in a smaller one.
constexpr double kFell = 0.7;      // Of goodput, in the same one: the link is another now.
constexpr double kQueueing = 1.5;  // Times the shortest latency.
constexpr double kHardlyQueueing = 1.25;
constexpr std::uint64_t kReadsThatTell = 4;  // In a round; one alone never queues.
constexpr auto kFirstProbePause = milliseconds(500);
constexpr auto kLongestProbePause = milliseconds(16'000);
constexpr auto kLatencyMemory = std::chrono::seconds(10);

constexpr double kCongested = 8;  // Times the shortest write.
constexpr auto kCongestedFrom = milliseconds(20);
constexpr auto kRateInterval = milliseconds(500);
constexpr double kLandingSeconds = 0.1;

double seconds(Pace::Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

std::uint64_t HydrationPace::extent() const {
  const std::uint64_t wanted = std::bit_floor(window_ / kExtentsInWindow);
  return std::clamp(wanted, kSmallestExtent, kLargestExtent);
}

std::uint64_t HydrationPace::goodput() const {
  return static_cast<std::uint64_t>(goodput_ == 0 ? goodput_before_ : goodput_);
}

std::uint64_t HydrationPace::window_without_queue() const {
  if (goodput_ == 0) return window_;
  const auto held = static_cast<std::uint64_t>(goodput_ * seconds(shortest_latency()) * kQueueing);
  return std::clamp(held, std::min(kFirstWindow, window_), window_);
}

void HydrationPace::set_window(std::uint64_t bytes) {
  const auto queue = static_cast<std::uint64_t>(goodput_ * kQueueSeconds);
  const std::uint64_t least = std::min(std::max(kFirstWindow, queue), largest_window_);
  window_ = std::clamp(bytes, least, largest_window_);
}

// ---- the origin ----

void HydrationPace::read_ended(TimePoint began, TimePoint now, std::uint64_t bytes) {
  if (round_began_ == TimePoint{}) {
    begin_round(began);
    shortest_since_ = began;
  }
  const Duration latency = std::max<Duration>(now - began, std::chrono::microseconds(1));
  note_latency(latency, now);
  round_bytes_ += bytes;
  round_latency_ += latency;
  ++round_reads_;
  const bool whole = round_bytes_ >= window_ && began >= round_began_;
  const Duration least = phase_ == Phase::start ? kShortestRound : kShortestSteadyRound;
  if (whole ? now - round_began_ >= least : overdue(now)) end_round(now);
}

// Far less comes than before. To wait until all has come could take as long as the queue is.
bool HydrationPace::overdue(TimePoint now) const {
  const Duration time = now - round_began_;
  const double due = goodput_ * kFell * seconds(time);
  return time >= kShortestSteadyRound && static_cast<double>(window_) < due;
}

void HydrationPace::note_latency(Duration latency, TimePoint now) {
  if (now - shortest_since_ > kLatencyMemory) {
    shortest_ = {Duration::max(), shortest_[0]};
    shortest_since_ = now;
  }
  shortest_[0] = std::min(shortest_[0], latency);
}

void HydrationPace::begin_round(TimePoint now) {
  round_began_ = now;
  round_bytes_ = round_reads_ = 0;
  round_latency_ = {};
  round_counts_ = true;
  round_without_queue_ = false;
}

void HydrationPace::end_round(TimePoint now) {
  const double goodput = static_cast<double>(round_bytes_) / seconds(now - round_began_);
  const bool settled = settling_ == 0;
  if (!settled) --settling_;
  if (round_counts_ && settled) judge(goodput, now);
  begin_round(now);
}

void HydrationPace::judge(double goodput, TimePoint now) {
  // In a larger one reads take longer without that.
  const bool larger = phase_ == Phase::start || (phase_ == Phase::probe && window_ > held_window_);
  if (!larger && fell(goodput)) {
    if (round_without_queue_) return give_way(goodput, now);
    return start_again(goodput);
  }
  if (gave_way_from_ && phase_ != Phase::start && !round_without_queue_) begin_start(window_);
  switch (phase_) {
    case Phase::start:
      judge_start(goodput, now);
      break;
    case Phase::hold:
      judge_hold(goodput, now);
      break;
    case Phase::probe:
      judge_probe(goodput, now);
      break;
  }
}

// How many times longer than the shortest one the reads of this round took.
double HydrationPace::queue() const { return latency() / seconds(shortest_latency()); }

double HydrationPace::latency() const {
  return seconds(round_latency_) / static_cast<double>(round_reads_);
}

// While users miss, the window itself was not filled: half as much again was in flight as before.
void HydrationPace::judge_start(double goodput, TimePoint now) {
  const double step = static_cast<double>(window_) / static_cast<double>(paid_window_);
  const double tried = round_without_queue_ ? std::min<double>(step, kSmallestStep) : step;
  const bool grew = goodput >= goodput_ * (1 + kPaid * (tried - 1));
  if (goodput > goodput_) {
    goodput_ = goodput;
    promise(goodput);
  }
  if (grew) paid_window_ = window_;
  const std::uint64_t most = gave_way_from_ ? gave_way_from_ : largest_window_;
  if (grew && window_ < most) {
    vain_rounds_ = 0;
    set_window(std::min(window_ * next_step(), most));
    return;
  }
  if (++vain_rounds_ == kVainRounds) end_start(goodput, now);
}

void HydrationPace::end_start(double goodput, TimePoint now) {
  // What came before was a burst. A shorter round can be a moment's: a busy machine.
  if (fell(goodput) && now - round_began_ >= kShortestSteadyRound) {
    goodput_ = goodput;
    promise(goodput);
    paid_window_ = kFirstWindow;
  }
  // The last step need not have paid in full: what the link holds lies between the two.
  const auto held = static_cast<std::uint64_t>(goodput_ * seconds(shortest_latency()) * 2);
  if (!round_without_queue_) set_window(std::max(paid_window_, std::min(held, window_)));
  gave_way_from_ = 0;
  probe_pause_ = kFirstProbePause;
  hold(now);
}

std::uint64_t HydrationPace::next_step() const {
  const bool told = round_reads_ >= kReadsThatTell;
  if (round_without_queue_ || gave_way_from_ || !told || queue() > kQueueing) return kSmallestStep;
  return kSmallestStep * (queue() > kHardlyQueueing ? 2 : 4);
}

void HydrationPace::promise(double goodput) {
  promised_goodput_ = goodput;
  promised_latency_ = latency();
}

// A full window that comes at 0.7 takes 1/0.7 times as long. Goodput alone falls where less is in
// flight, too; and a queue alone can be the window's own.
bool HydrationPace::fell(double goodput) const {
  return goodput < promised_goodput_ * kFell && latency() > promised_latency_ / kFell;
}

void HydrationPace::begin_start(std::uint64_t window) {
  phase_ = Phase::start;
  goodput_before_ = goodput_;
  goodput_ = 0;
  vain_rounds_ = 0;
  window_ = paid_window_ = window;
}

// What was measured was another link, or its burst. Part of this round may still be: a window made
// of what it gave could be a queue of many seconds.
void HydrationPace::start_again(double goodput) {
  goodput_ = goodput;
  gave_way_from_ = 0;
  begin_start(kFirstWindow);
  settling_ = kSettling;
}

// The same while users miss, who wait behind the queue, and may be what takes the rest of the link:
// the queue goes at once, and when none miss any more the window grows again to what it was.
void HydrationPace::give_way(double goodput, TimePoint now) {
  goodput_ = goodput;
  promise(goodput);
  if (gave_way_from_ == 0) gave_way_from_ = window_;
  set_window(window_without_queue());
  probe_pause_ = kFirstProbePause;
  hold(now);
}

void HydrationPace::hold(TimePoint now) {
  phase_ = Phase::hold;
  next_probe_ = now + probe_pause_;
  settling_ = kSettling;
}

void HydrationPace::judge_hold(double goodput, TimePoint now) {
  // What came once can come again; what did not come may be a moment's.
  const double weight = goodput > goodput_ ? 0.5 : 0.25;
  goodput_ = goodput_ * (1 - weight) + goodput * weight;
  if (goodput_ > promised_goodput_) promise(goodput_);
  set_window(window_);
  if (now < next_probe_) return;
  held_window_ = window_;
  // What seems to queue can be a way that varies, of which the shortest is rare.
  const bool smaller = queue() > kQueueing && (round_without_queue_ || !smaller_failed_);
  set_window(
      static_cast<std::uint64_t>(static_cast<double>(window_) * (smaller ? kProbeDown : kProbeUp)));
  phase_ = Phase::probe;
  settling_ = kSettling;
}

void HydrationPace::judge_probe(double goodput, TimePoint now) {
  const bool larger = window_ > held_window_;
  const bool kept = goodput >= goodput_ * (larger ? kPays : kStays) && window_ != held_window_;
  smaller_failed_ = window_ < held_window_ && !kept;
  if (kept) {
    goodput_ = goodput;
    probe_pause_ = {};
  } else {
    window_ = held_window_;
    probe_pause_ = std::clamp<Duration>(probe_pause_ * 2, kFirstProbePause, kLongestProbePause);
  }
  hold(now);
}

// ---- the destination ----

void HydrationPace::write_ended(TimePoint began, TimePoint now, std::uint64_t bytes) {
  const auto size = std::min<std::size_t>(std::bit_width(bytes / kSmallestExtent), kSizes - 1);
  const Duration latency = std::max<Duration>(now - began, std::chrono::microseconds(1));
  Duration& shortest = shortest_write_[size];
  if (shortest == Duration{} || latency < shortest) shortest = latency;
  write_excess_ = write_excess_ * 0.75 + seconds(latency) / seconds(shortest) * 0.25;
  write_latency_ = (write_latency_ * 3 + latency) / 4;
  if (writes_since_ == TimePoint{}) writes_since_ = began;
  written_ += bytes;
  if (now - writes_since_ < kRateInterval) return;
  write_rate_ = static_cast<double>(written_) / seconds(now - writes_since_);
  writes_since_ = now;
  written_ = 0;
}

std::uint64_t HydrationPace::most_landing() const {
  const bool congested = write_excess_ > kCongested && write_latency_ > kCongestedFrom;
  if (!congested || write_rate_ == 0) return std::numeric_limits<std::uint64_t>::max();
  Duration shortest{};
  for (const Duration one : shortest_write_) shortest = std::max(shortest, one);
  const double origin = shortest_latency() == Duration::max() ? 0 : seconds(shortest_latency());
  const double time = origin + 2 * seconds(shortest) + kLandingSeconds;
  return std::max(static_cast<std::uint64_t>(write_rate_ * time), extent());
}

}  // namespace clonedev
