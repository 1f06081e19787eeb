// How many bytes to keep in flight, found by measuring: no knob fits a file next door and a server
// 100 ms away alike.
//
// Reads are judged by rounds. A round ends when a whole window has come, and a read begun in it has
// ended, or when it is overdue; its goodput is what came by the time it took.
//  - At the start the window grows each round while that makes goodput grow: up to eightfold where
//    reads hardly queue, so that it is their way that takes the time, to the double where they do,
//    where users miss, and where too few reads are under way to tell. The first window is small,
//    so that a sample comes soon.
//  - Then it is held, and now and then another one is tried for some rounds: a larger one, kept
//    when goodput grows by more than a few percent; or, when reads take clearly longer than the
//    shortest one did, a smaller one, kept when goodput stays; where that failed, a larger one
//    the next time. What does not pay is tried ever more rarely.
//  - Where goodput falls well below what the window has brought, and reads take longer than they
//    did then, the link is another one: all begins anew. While users miss they can be the reason:
//    the window becomes what the link holds, and grows again to what it was when none do.
//  - It is never smaller than what comes in 30 ms: where each request costs more than its bytes
//    only larger extents can show what there is to have. That is a queue before which a user's
//    miss waits as long, so there is a window without it too.
// Rounds in which something else than the window held the reads back say nothing.
// An extent is a twelfth of the window: large ones cost less, but several have to be under way.
// None is larger than 2 MiB: what is larger leaves the caches of servers and ours before it is used
// again, which cost 1 to 9 % over NBD and HTTP at 0 to 100 ms, and nowhere brought anything.
//
// The destination is watched apart: while its writes take far longer than its shortest did, what
// waits for it is bounded by what it takes in an origin's round trip, twice its own shortest time
// and 0.1 s. Without the first term a destination that is merely far from the origin would starve.
//
// Pure. Units: bytes, bytes a second. Thread: one.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

namespace clonedev {

class HydrationPace {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::steady_clock::duration;
  static constexpr std::uint64_t kSmallestExtent = std::uint64_t{64} << 10;
  static constexpr std::uint64_t kLargestExtent = std::uint64_t{2} << 20;
  static constexpr std::uint64_t kFirstWindow = std::uint64_t{1} << 20;

  explicit HydrationPace(std::uint64_t largest_window) : largest_window_(largest_window) {}

  std::uint64_t window() const { return window_; }
  // What the link holds, and next to nothing that waits before it.
  std::uint64_t window_without_queue() const;
  std::uint64_t extent() const;  // A power of two.
  // What the origin gives when nothing but the window holds the reads back, smoothed; 0: not known
  // yet.
  std::uint64_t goodput() const;
  // How much may wait for the destination.
  std::uint64_t most_landing() const;

  void read_ended(TimePoint began, TimePoint now, std::uint64_t bytes);
  void write_ended(TimePoint began, TimePoint now, std::uint64_t bytes);
  // Something else than the window is, or was, what bounds the reads in flight.
  void held_back() { round_counts_ = false; }
  // window_without_queue() bounds them, which grows with what they bring.
  void queue_avoided() { round_without_queue_ = true; }

 private:
  enum class Phase { start, hold, probe };

  void begin_round(TimePoint now);
  void end_round(TimePoint now);
  void judge(double goodput, TimePoint now);
  void judge_start(double goodput, TimePoint now);
  void end_start(double goodput, TimePoint now);
  void judge_hold(double goodput, TimePoint now);
  void judge_probe(double goodput, TimePoint now);
  void hold(TimePoint now);
  void begin_start(std::uint64_t window);
  void start_again(double goodput);
  void give_way(double goodput, TimePoint now);
  void promise(double goodput);
  bool fell(double goodput) const;
  bool overdue(TimePoint now) const;
  double latency() const;
  double queue() const;
  std::uint64_t next_step() const;
  void set_window(std::uint64_t bytes);
  void note_latency(Duration latency, TimePoint now);
  Duration shortest_latency() const { return std::min(shortest_[0], shortest_[1]); }

  const std::uint64_t largest_window_;
  std::uint64_t window_ = kFirstWindow;
  Phase phase_ = Phase::start;
  double goodput_ = 0;
  double goodput_before_ = 0;  // The start began again.

  TimePoint round_began_{};
  std::uint64_t round_bytes_ = 0;
  Duration round_latency_{};  // The sum.
  std::uint64_t round_reads_ = 0;
  bool round_counts_ = false;
  bool round_without_queue_ = false;
  unsigned settling_ = 0;  // Rounds that still belong to another window.

  double promised_goodput_ = 0;  // What the window has brought, and how long reads took then.
  double promised_latency_ = 0;  // Seconds.
  // The window before it gave way to users who missed; 0: it did not, or has grown again.
  std::uint64_t gave_way_from_ = 0;

  unsigned vain_rounds_ = 0;                  // At the start.
  std::uint64_t paid_window_ = kFirstWindow;  // The last one that made goodput grow.
  std::uint64_t held_window_ = 0;             // While another one is tried.
  TimePoint next_probe_{};
  Duration probe_pause_{};
  bool smaller_failed_ = false;  // When it was tried last.
  // In the present and the last ten seconds.
  std::array<Duration, 2> shortest_{Duration::max(), Duration::max()};
  TimePoint shortest_since_{};

  static constexpr std::size_t kSizes = 8;
  std::array<Duration, kSizes> shortest_write_{};  // By the size of the write; 0: none yet.
  double write_excess_ = 1;                        // Times the shortest, smoothed.
  Duration write_latency_{};                       // Smoothed.
  double write_rate_ = 0;
  TimePoint writes_since_{};
  std::uint64_t written_ = 0;
};

}  // namespace clonedev
