#include "io/in_flight.h"

#include <gtest/gtest.h>

#include <chrono>
#include <list>
#include <random>
#include <string>
#include <vector>

#include "io/event.h"
#include "io/task.h"
#include "support/sim_scheduler.h"

namespace clonedev {
namespace {

using std::chrono::microseconds;

// Takes a place, notes that it has it, and gives it up when told to.
class ClaimHolder {
 public:
  ClaimHolder(InFlight& table, Extent extent) { spawn(hold(table, extent)); }
  ~ClaimHolder() { release_.set(); }

  bool granted() const { return granted_; }
  void release() { release_.set(); }

 private:
  Task<> hold(InFlight& table, Extent extent) {
    const auto entry = co_await table.acquire(extent);
    granted_ = true;
    co_await release_.wait();
    granted_ = false;
  }

  bool granted_ = false;
  Event release_;
};

TEST(InFlight, lets_ranges_stand_side_by_side_and_overlapping_ones_wait) {
  SimScheduler sim;
  InFlight table;
  std::list<ClaimHolder> holders;
  const auto take = [&](Extent extent) -> ClaimHolder& {
    return holders.emplace_back(table, extent);
  };
  EXPECT_TRUE(take({0, 8192}).granted());
  EXPECT_TRUE(take({8192, 4096}).granted()) << "it only touches the other";
  ClaimHolder& both = take({4096, 8192});
  EXPECT_FALSE(both.granted());
  ClaimHolder& byte = take({8192 + 4095, 1});
  EXPECT_FALSE(byte.granted()) << "one byte in common";
  EXPECT_EQ(table.size(), 4u);
  holders.front().release();
  sim.settle();
  EXPECT_FALSE(both.granted()) << "it waits for two";
  std::next(holders.begin())->release();
  sim.settle();
  EXPECT_TRUE(both.granted());
  EXPECT_FALSE(byte.granted()) << "it overtook an earlier one";
  for (ClaimHolder& holder : holders) holder.release();
  sim.settle();
  EXPECT_EQ(table.size(), 0u);
}

TEST(InFlight, grants_a_large_range_although_small_ones_keep_coming) {
  SimScheduler sim;
  InFlight table;
  ClaimHolder first(table, {0, 4096});
  ClaimHolder large(table, {0, 65536});
  ClaimHolder later(table, {8192, 4096});
  EXPECT_TRUE(first.granted());
  EXPECT_FALSE(large.granted());
  EXPECT_FALSE(later.granted()) << "it overtook one that waits";
  first.release();
  sim.settle();
  EXPECT_TRUE(large.granted());
  EXPECT_FALSE(later.granted());
  large.release();
  sim.settle();
  EXPECT_TRUE(later.granted());
  later.release();
  sim.settle();
}

TEST(InFlight, gives_a_place_up_once_however_its_entry_is_moved) {
  SimScheduler sim;
  InFlight table;
  sim.run([](InFlight& t) -> Task<> {
    const Extent extent{0, 4096};
    auto first = co_await t.acquire(extent);
    InFlight::Entry second = std::move(first);
    first.release();
    EXPECT_EQ(t.size(), 1u);
    const Extent other{4096, 4096};
    auto third = co_await t.acquire(other);
    third = std::move(second);
    EXPECT_EQ(t.size(), 1u) << "the place that was overwritten is given up";
    third.release();
    third.release();
    EXPECT_EQ(t.size(), 0u);
  }(table));
}

// What is waiting or granted, in order of arrival: the rule, written down naively.
class Oracle {
 public:
  struct Request {
    Extent extent;
    bool granted = false;
  };
  using Place = std::list<Request>::iterator;

  Place arrive(Extent extent) { return requests_.insert(requests_.end(), {extent, false}); }
  void grant(Place place) {
    for (const Request& other : requests_) {
      EXPECT_FALSE(other.granted && conflict(other, *place)) << "two that conflict are granted";
    }
    EXPECT_FALSE(has_to_wait(place)) << "overtook an earlier one that conflicts";
    place->granted = true;
  }
  void leave(Place place) { requests_.erase(place); }
  // When nothing is ready, whoever waits must have a reason.
  void expect_nobody_waits_in_vain() {
    for (Place place = requests_.begin(); place != requests_.end(); ++place) {
      EXPECT_TRUE(place->granted || has_to_wait(place));
    }
  }
  std::size_t size() const { return requests_.size(); }

 private:
  static bool conflict(const Request& a, const Request& b) {
    return !intersect(a.extent, b.extent).empty();
  }
  bool has_to_wait(Place place) {
    for (Place earlier = requests_.begin(); earlier != place; ++earlier) {
      if (conflict(*earlier, *place)) return true;
    }
    return false;
  }

  std::list<Request> requests_;
};

struct World {
  explicit World(std::uint64_t seed) : sim(seed + 1), random(seed) {}

  SimScheduler sim;
  std::mt19937_64 random;
  InFlight table;
  Oracle oracle;
  int grants = 0;
};

Task<> random_user(World& world, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    const microseconds pause(world.random() % 50);
    co_await world.sim.sleep_for(pause);
    const Extent extent{world.random() % 64, 1 + world.random() % 16};
    const Oracle::Place place = world.oracle.arrive(extent);
    auto entry = co_await world.table.acquire(extent);
    world.oracle.grant(place);
    ++world.grants;
    const microseconds work(world.random() % 20);
    co_await world.sim.sleep_for(work);
    world.oracle.leave(place);
    entry.release();
  }
}

TEST(InFlight, keeps_its_rule_under_random_schedules) {
  constexpr int kUsers = 12;
  constexpr int kRounds = 60;
  for (std::uint64_t seed = 1; seed <= 40 && !HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed);
    for (int i = 0; i < kUsers; ++i) spawn(random_user(world, kRounds));
    do {
      world.sim.settle();
      world.oracle.expect_nobody_waits_in_vain();
      EXPECT_EQ(world.table.size(), world.oracle.size());
    } while (world.sim.step());
    EXPECT_EQ(world.grants, kUsers * kRounds);
    EXPECT_EQ(world.table.size(), 0u);
  }
}

}  // namespace
}  // namespace clonedev
