// The window on a link of any bandwidth and delay, in a simulation of nothing but that.

#include "core/hydration_pace.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

namespace clonedev {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Pace = HydrationPace;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kLargestWindow = 48 * kMiB;

// First come, first served at `bandwidth`, and each answer `delay` later.
struct Link {
  double bandwidth;
  Pace::Duration delay;
  Pace::Duration per_request{};
  Pace::Duration credit{};  // Bandwidth that was not used for so long may be used at once.
  Pace::Duration jitter{};  // Later still, every answer on its own: lognormal, the median.
  bool thrashes = false;    // It gives 0.4 of it when more than 16 MiB are asked for at a time.
};

class Download {
 public:
  explicit Download(Link link) : link_(link) {}

  // Keeps the window full for that long; the bytes that came.
  std::uint64_t run_for(Pace::Duration time) {
    const Pace::TimePoint end = now_ + time;
    std::uint64_t came = 0;
    fill();
    while (!reads_.empty() && reads_.begin()->first <= end) {
      const auto [due, read] = *reads_.begin();
      reads_.erase(reads_.begin());
      now_ = due;
      latest_latency_ = now_ - read.began;
      in_flight_ -= read.bytes;
      came += read.bytes;
      pace.read_ended(read.began, now_, read.bytes);
      fill();
    }
    now_ = end;
    return came;
  }
  // Everything comes later.
  void pause(Pace::Duration time) {
    std::multimap<Pace::TimePoint, Read> later;
    for (const auto& [due, read] : reads_) later.emplace(due + time, read);
    reads_ = std::move(later);
    now_ += time;
    free_ += time;
  }
  void set_link(Link link) { link_ = link; }
  void set_users_miss(bool miss) { without_queue_ = miss; }
  std::uint64_t in_force() const {
    return without_queue_ ? pace.window_without_queue() : pace.window();
  }
  std::uint64_t largest_window_ever() const { return largest_window_ever_; }
  Pace::Duration latest_latency() const { return latest_latency_; }
  Pace pace{kLargestWindow};

 private:
  struct Read {
    Pace::TimePoint began;
    std::uint64_t bytes;
  };
  void fill() {
    largest_window_ever_ = std::max(largest_window_ever_, pace.window());
    if (without_queue_) pace.queue_avoided();
    while (in_flight_ < in_force()) {
      const std::uint64_t bytes = pace.extent();
      const double given = link_.thrashes && in_flight_ > 16 * kMiB ? 0.4 : 1;
      const auto busy =
          std::chrono::duration<double>(static_cast<double>(bytes) / link_.bandwidth / given);
      free_ = std::max(free_, now_ - link_.credit) + duration_cast<Pace::Duration>(busy) +
              link_.per_request;
      reads_.emplace(std::max(free_, now_) + link_.delay + jitter(), Read{now_, bytes});
      in_flight_ += bytes;
    }
  }

  Pace::Duration jitter() {
    const double median = std::chrono::duration<double>(link_.jitter).count();
    if (median == 0) return {};
    const std::chrono::duration<double> more(
        std::lognormal_distribution(std::log(median), 1.0)(random_));
    return duration_cast<Pace::Duration>(more);
  }

  Link link_;
  std::minstd_rand random_;
  Pace::Duration latest_latency_{};
  bool without_queue_ = false;
  std::uint64_t largest_window_ever_ = 0;
  Pace::TimePoint now_{std::chrono::hours(1)};
  Pace::TimePoint free_{};
  std::multimap<Pace::TimePoint, Read> reads_;
  std::uint64_t in_flight_ = 0;
};

TEST(HydrationPace, fills_any_link_without_a_knob) {
  for (const double bandwidth : {3e6, 12e6, 120e6, 1200e6}) {
    for (const auto delay : {microseconds(50), microseconds(1000), microseconds(10'000),
                             microseconds(30'000), microseconds(100'000)}) {
      Download download({bandwidth, delay});
      download.run_for(seconds(20));
      const auto came = static_cast<double>(download.run_for(seconds(40))) / 40;
      const double round_trip = std::chrono::duration<double>(delay).count();
      const double possible = std::min(bandwidth, static_cast<double>(kLargestWindow) / round_trip);
      EXPECT_GE(came, possible * 0.9)
          << bandwidth << " bytes/s, " << delay.count() << " us, window " << download.pace.window()
          << ", extent " << download.pace.extent();
      EXPECT_NEAR(static_cast<double>(download.pace.goodput()), possible, possible * 0.15);
    }
  }
}

TEST(HydrationPace, is_fast_within_a_few_round_trips) {
  Download download({1200e6, milliseconds(100)});
  const std::uint64_t came = download.run_for(seconds(2));
  EXPECT_GE(came, 400 * kMiB) << "window " << download.pace.window();
}

TEST(HydrationPace, needs_few_rounds_where_the_way_takes_the_time) {
  Download download({1200e6, milliseconds(100)});
  download.run_for(milliseconds(500));
  EXPECT_EQ(download.pace.window(), kLargestWindow);
}

TEST(HydrationPace, a_round_trip_is_a_round_at_the_start) {
  Download download({1200e6, milliseconds(10)});
  EXPECT_GE(download.run_for(milliseconds(29)), 8 * kMiB) << "1 MiB in the first, 8 in the second";
}

TEST(HydrationPace, a_first_step_is_no_flood_on_a_link_that_holds_little) {
  Download near({10e6, milliseconds(10)});
  near.run_for(seconds(10));
  EXPECT_LE(near.largest_window_ever(), 2 * kMiB);
  Download slow({10e6, milliseconds(100)});
  slow.run_for(seconds(10));
  EXPECT_LE(slow.largest_window_ever(), 8 * kMiB);
  Download far({3.5e6, milliseconds(300)});
  far.run_for(seconds(20));
  EXPECT_LE(far.largest_window_ever(), 8 * kMiB);
  Download middling({20e6, milliseconds(100)});
  middling.run_for(seconds(20));
  EXPECT_LE(middling.largest_window_ever(), 8 * kMiB);
}

// Burst credits, or what a cache holds, and then a slow link.
TEST(HydrationPace, comes_back_from_a_beginning_that_promised_too_much) {
  for (const std::uint64_t at_once : {4 * kMiB, 24 * kMiB, 500 * kMiB}) {
    for (const double bandwidth : {1e6, 2e6, 5e6, 20e6}) {
      const std::chrono::duration<double> credit(static_cast<double>(at_once) / bandwidth);
      Download download({bandwidth, milliseconds(20), {}, duration_cast<Pace::Duration>(credit)});
      download.run_for(seconds(static_cast<int>(300e6 / bandwidth)));
      EXPECT_LE(download.pace.window(), 4 * kMiB) << bandwidth << " bytes/s after " << at_once;
      EXPECT_LE(download.pace.window_without_queue(), 2 * kMiB)
          << bandwidth << " bytes/s after " << at_once;
    }
  }
}

// What it has saved up while little was asked for is soon spent, every time.
TEST(HydrationPace, a_token_bucket_is_no_link_that_changes) {
  for (const Link& link : {Link{100e6, milliseconds(20), {}, milliseconds(50)},
                           Link{100e6, milliseconds(20), {}, milliseconds(1000)},
                           Link{20e6, milliseconds(100), {}, milliseconds(250)}}) {
    Download download(link);
    download.run_for(seconds(10));
    for (int i = 0; i < 1000; ++i) {
      download.run_for(milliseconds(50));
      ASSERT_LE(download.pace.window(), 8 * kMiB) << link.bandwidth << " bytes/s, " << i;
    }
  }
}

TEST(HydrationPace, a_server_that_thrashes_in_a_larger_window_is_no_link_that_changes) {
  for (const auto delay : {milliseconds(20), milliseconds(30)}) {
    Download download({300e6, delay, {}, {}, {}, true});
    download.run_for(seconds(10));
    EXPECT_GE(static_cast<double>(download.run_for(seconds(60))), 60 * 300e6 * 0.9)
        << delay.count() << " ms";
  }
}

// Wherever in a round it becomes another one; who misses waits behind what is in flight.
TEST(HydrationPace, comes_back_at_once_when_a_link_becomes_slow) {
  for (const bool users_miss : {false, true}) {
    for (int i = 0; i < 16; ++i) {
      Download download({1200e6, milliseconds(20)});
      download.run_for(seconds(10) + i * milliseconds(150));
      download.set_users_miss(users_miss);
      download.run_for(seconds(2));
      download.set_link({5e6, milliseconds(20)});
      download.run_for(milliseconds(500));
      EXPECT_GT(download.pace.goodput(), 0) << "what is known is not forgotten meanwhile";
      download.run_for(milliseconds(1500));
      EXPECT_LE(download.in_force(), 4 * kMiB)
          << "the fall after " << i * 150 << " ms, users miss: " << users_miss;
      download.run_for(seconds(60));
      download.set_users_miss(false);
      download.run_for(seconds(10));
      EXPECT_LE(download.pace.window(), 4 * kMiB)
          << "the fall after " << i * 150 << " ms, users miss: " << users_miss;
    }
  }
}

// What they always wait behind passes for the way itself one day.
TEST(HydrationPace, keeps_no_long_queue_in_a_link_that_became_slow_while_users_missed) {
  Download download({1200e6, microseconds(300)});
  download.run_for(seconds(5));
  download.set_users_miss(true);
  download.run_for(seconds(2));
  download.set_link({1e6, microseconds(300)});
  download.run_for(seconds(120));
  EXPECT_LE(download.latest_latency(), seconds(3)) << "1 MiB takes one";
}

TEST(HydrationPace, comes_back_when_a_link_becomes_slow_little_by_little) {
  for (const bool users_miss : {false, true}) {
    Download download({1200e6, milliseconds(20)});
    download.run_for(seconds(5));
    download.set_users_miss(users_miss);
    for (double bandwidth = 1200e6; bandwidth > 5e6; bandwidth *= 0.98) {
      download.set_link({bandwidth, milliseconds(20)});
      download.run_for(milliseconds(200));
      ASSERT_LE(download.latest_latency(), milliseconds(500))
          << bandwidth << " bytes/s, users miss: " << users_miss;
    }
  }
}

TEST(HydrationPace, comes_back_every_time_a_link_becomes_slow) {
  Download download({1200e6, milliseconds(1)});
  for (int i = 0; i < 10; ++i) {
    download.set_link({1200e6, milliseconds(1)});
    download.run_for(seconds(10));
    EXPECT_GE(static_cast<double>(download.run_for(seconds(1))), 1200e6 * 0.9) << i;
    download.set_link({120e6, milliseconds(1)});
    download.run_for(seconds(2));
    EXPECT_LE(download.latest_latency(), milliseconds(70)) << i;
  }
}

TEST(HydrationPace, finds_what_a_slower_link_on_a_longer_way_gives) {
  Download download({1200e6, milliseconds(100)});
  download.run_for(seconds(10));
  download.set_link({5e6, seconds(1)});
  download.run_for(seconds(60));
  EXPECT_GE(static_cast<double>(download.run_for(seconds(10))), 50e6 * 0.9);
}

TEST(HydrationPace, is_fast_again_soon_after_a_stall_and_on_a_longer_way) {
  Download download({1200e6, milliseconds(10)});
  download.run_for(seconds(10));
  download.pause(seconds(5));
  download.run_for(seconds(1));
  EXPECT_GE(static_cast<double>(download.run_for(seconds(1))), 1200e6 * 0.8);
  download.set_link({1200e6, milliseconds(100)});
  download.run_for(milliseconds(2500));
  EXPECT_EQ(download.pace.window(), kLargestWindow);
}

// What is kept low for them is no sign of the link, and goes with them.
TEST(HydrationPace, users_who_miss_now_and_then_make_no_link_another_one) {
  Download download({1200e6, milliseconds(50), {}, {}, milliseconds(100)});
  download.run_for(seconds(5));
  const std::uint64_t alone = download.run_for(seconds(10)) / 10;
  std::uint64_t between = 0;
  for (int i = 0; i < 10; ++i) {
    download.set_users_miss(true);
    download.run_for(seconds(1));
    download.set_users_miss(false);
    between += download.run_for(seconds(1)) / 10;
  }
  EXPECT_GE(between, alone * 9 / 10);
}

// They are what takes most of the link.
TEST(HydrationPace, grows_again_to_what_it_was_when_users_miss_no_more) {
  Download download({100e6, milliseconds(100)});
  download.run_for(seconds(20));
  const std::uint64_t window = download.pace.window();
  std::uint64_t alone = 0;
  for (int i = 0; i < 10; ++i) {
    download.set_users_miss(true);
    download.set_link({20e6, milliseconds(100)});
    download.run_for(seconds(1));
    download.set_users_miss(false);
    download.set_link({100e6, milliseconds(100)});
    for (int k = 0; k < 20; ++k) {
      alone += download.run_for(milliseconds(100));
      ASSERT_LE(download.pace.window(), window * 7 / 4) << "but for a probe";
    }
  }
  EXPECT_GE(static_cast<double>(alone), 20 * 100e6 * 0.7);
}

TEST(HydrationPace, grows_again_at_once_when_users_miss_no_more) {
  Download download({1200e6, milliseconds(100)});
  download.run_for(seconds(10));
  download.set_users_miss(true);
  download.set_link({60e6, milliseconds(100)});
  download.run_for(seconds(3));
  download.set_users_miss(false);
  download.set_link({1200e6, milliseconds(100)});
  download.run_for(milliseconds(1500));
  EXPECT_EQ(download.pace.window(), kLargestWindow);
}

TEST(HydrationPace, is_fast_again_when_users_miss_no_more) {
  Download download({1200e6, milliseconds(10)});
  download.run_for(seconds(5));
  download.set_users_miss(true);
  download.set_link({1200e6, milliseconds(100)});
  download.run_for(seconds(5));
  download.set_users_miss(false);
  download.run_for(seconds(2));
  EXPECT_GE(download.run_for(seconds(1)), kLargestWindow * 7);
}

// Its shortest way is rare, so that reads always seem to queue.
TEST(HydrationPace, fills_a_link_whose_latency_varies) {
  Download download({100e6, milliseconds(1), {}, {}, milliseconds(100)});
  download.run_for(seconds(30));
  EXPECT_GE(static_cast<double>(download.run_for(seconds(30))), 30 * 100e6 * 0.9);
}

// As when the size of a batch is given: the window holds one.
TEST(HydrationPace, a_read_on_its_own_tells_nothing_of_a_queue) {
  Pace pace(kLargestWindow);
  const Pace::TimePoint now{std::chrono::hours(1)};
  pace.read_ended(now, now + seconds(1), kMiB);
  EXPECT_EQ(pace.window(), 2 * kMiB);
}

TEST(HydrationPace, finds_what_a_far_link_gives_while_users_miss) {
  Download download({1200e6, milliseconds(100)});
  download.set_users_miss(true);
  download.run_for(seconds(4));
  EXPECT_GE(download.pace.window_without_queue(), kLargestWindow * 9 / 10);
}

TEST(HydrationPace, keeps_no_long_queue_in_a_link_that_is_full) {
  for (const auto delay : {microseconds(1000), microseconds(10'000), microseconds(100'000)}) {
    Download download({120e6, delay});
    download.run_for(seconds(120));
    const double holds = 120e6 * std::chrono::duration<double>(delay).count();
    const double unfelt = 120e6 * 0.03;
    EXPECT_LE(static_cast<double>(download.pace.window()), std::max(3 * holds, 1.1 * unfelt))
        << delay.count() << " us";
  }
}

TEST(HydrationPace, can_do_without_a_queue_where_somebody_waits_behind_it) {
  Download near({120e6, microseconds(300)});
  near.run_for(seconds(20));
  EXPECT_GE(near.pace.window(), 3 * kMiB);
  EXPECT_EQ(near.pace.window_without_queue(), Pace::kFirstWindow);
  Download far({120e6, milliseconds(100)});
  far.run_for(seconds(20));
  EXPECT_GE(static_cast<double>(far.pace.window_without_queue()), 120e6 * 0.1) << "it is kept full";
}

TEST(HydrationPace, extents_are_large_where_requests_cost_more_than_their_bytes) {
  Download download({1200e6, microseconds(50), microseconds(150)});
  download.run_for(seconds(1));
  const auto came = static_cast<double>(download.run_for(seconds(5))) / 5;
  EXPECT_GE(came, 1200e6 * 0.85) << "extent " << download.pace.extent();
}

// A busy machine: what it does beside this is no sign of a full link.
TEST(HydrationPace, pauses_at_the_start_do_not_keep_it_small) {
  Download download({1200e6, microseconds(50), microseconds(150)});
  for (int i = 0; i < 20; ++i) {
    download.run_for(milliseconds(7));
    download.pause(milliseconds(40));
  }
  download.run_for(milliseconds(500));
  const auto came = static_cast<double>(download.run_for(seconds(1)));
  EXPECT_GE(came, 1200e6 * 0.8) << "extent " << download.pace.extent();
}

TEST(HydrationPace, pauses_are_no_sign_of_another_link) {
  Download download({1200e6, microseconds(50), microseconds(150)});
  std::uint64_t came = 0;
  for (int i = 0; i < 25; ++i) {
    came += download.run_for(milliseconds(40));
    download.pause(milliseconds(40));
  }
  EXPECT_GE(static_cast<double>(came), 1200e6 * 0.75) << "extent " << download.pace.extent();
}

TEST(HydrationPace, extents_are_small_at_first_and_grow_with_what_the_link_holds) {
  Download near({12e6, milliseconds(1)});
  EXPECT_EQ(near.pace.extent(), Pace::kSmallestExtent);
  near.run_for(seconds(20));
  EXPECT_LE(near.pace.extent(), 2 * Pace::kSmallestExtent);
  Download far({1200e6, milliseconds(100)});
  far.run_for(seconds(20));
  EXPECT_EQ(far.pace.extent(), Pace::kLargestExtent);
}

TEST(HydrationPace, follows_a_link_that_changes) {
  Download download({120e6, milliseconds(1)});
  download.run_for(seconds(60));
  const std::uint64_t near = download.pace.window();
  download.set_link({120e6, milliseconds(100)});
  download.run_for(seconds(60));
  EXPECT_GT(download.pace.window(), 2 * near);
  const auto came = static_cast<double>(download.run_for(seconds(20))) / 20;
  EXPECT_GE(came, 120e6 * 0.85);
}

TEST(HydrationPace, what_was_held_back_says_nothing) {
  Download download({120e6, milliseconds(10)});
  download.run_for(seconds(20));
  const std::uint64_t goodput = download.pace.goodput();
  Pace::TimePoint now{std::chrono::hours(2)};
  for (int i = 0; i < 1000; ++i) {  // Three reads a second.
    download.pace.held_back();
    download.pace.read_ended(now - milliseconds(10), now, 64 << 10);
    now += milliseconds(333);
  }
  EXPECT_EQ(download.pace.goodput(), goodput);
}

class Destination : public testing::Test {
 protected:
  void write(Pace::Duration latency, int times, Pace::Duration every) {
    for (int i = 0; i < times; ++i) {
      now_ += every;
      pace_.write_ended(now_ - latency, now_, kMiB);
    }
  }
  static constexpr std::uint64_t kUnbounded = std::numeric_limits<std::uint64_t>::max();

  Pace pace_{kLargestWindow};
  Pace::TimePoint now_{std::chrono::hours(1)};
};

TEST_F(Destination, that_keeps_up_bounds_nothing) {
  write(milliseconds(2), 1000, milliseconds(1));
  EXPECT_EQ(pace_.most_landing(), kUnbounded);
}

TEST_F(Destination, that_is_far_but_not_slow_bounds_nothing) {
  write(milliseconds(100), 1000, milliseconds(1));
  EXPECT_EQ(pace_.most_landing(), kUnbounded);
}

TEST_F(Destination, whose_queue_grows_gets_what_it_takes_in_a_moment) {
  pace_.read_ended(now_, now_ + milliseconds(50), kMiB);
  write(milliseconds(2), 100, milliseconds(10));
  write(milliseconds(300), 200, milliseconds(10));  // 100 MiB a second.
  const double expected = 100.0 * kMiB * (0.05 + 2 * 0.002 + 0.1);
  EXPECT_NEAR(static_cast<double>(pace_.most_landing()), expected, expected * 0.1);
  write(milliseconds(2), 100, milliseconds(10));
  EXPECT_EQ(pace_.most_landing(), kUnbounded) << "it keeps up again";
}

}  // namespace
}  // namespace clonedev
