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

using Mode = InFlight::Mode;
using std::chrono::microseconds;

constexpr Mode kShared = Mode::shared;
constexpr Mode kExclusive = Mode::exclusive;

// Takes a place, notes that it has it, and gives it up when told to.
class Holder {
 public:
  Holder(InFlight& table, Extent extent, Mode mode) { spawn(hold(table, extent, mode)); }
  ~Holder() { release_.set(); }

  bool granted() const { return granted_; }
  void release() { release_.set(); }

 private:
  Task<> hold(InFlight& table, Extent extent, Mode mode) {
    const auto entry = co_await table.acquire(extent, mode);
    granted_ = true;
    co_await release_.wait();
    granted_ = false;
  }

  bool granted_ = false;
  Event release_;
};

TEST(InFlight, lets_writes_overlap_and_claims_only_stand_side_by_side) {
  SimScheduler sim;
  InFlight table;
  std::list<Holder> holders;
  const auto take = [&](Extent extent, Mode mode) -> Holder& {
    return holders.emplace_back(table, extent, mode);
  };
  EXPECT_TRUE(take({0, 8192}, kShared).granted());
  EXPECT_TRUE(take({4096, 8192}, kShared).granted());
  EXPECT_TRUE(take({12288, 4096}, kExclusive).granted()) << "it only touches the others";
  Holder& claim = take({8192, 4096}, kExclusive);
  EXPECT_FALSE(claim.granted());
  Holder& write = take({12288 + 4095, 1}, kShared);
  EXPECT_FALSE(write.granted()) << "one byte in common with a claim";
  EXPECT_EQ(table.size(), 5u);
  std::next(holders.begin(), 1)->release();
  std::next(holders.begin(), 2)->release();
  sim.settle();
  EXPECT_TRUE(claim.granted());
  EXPECT_TRUE(write.granted());
  for (Holder& holder : holders) holder.release();
  sim.settle();
  EXPECT_EQ(table.size(), 0u);
}

TEST(InFlight, grants_a_claim_although_writes_keep_coming) {
  SimScheduler sim;
  InFlight table;
  Holder first(table, {0, 4096}, kShared);
  Holder claim(table, {0, 4096}, kExclusive);
  Holder later(table, {0, 4096}, kShared);
  EXPECT_TRUE(first.granted());
  EXPECT_FALSE(claim.granted());
  EXPECT_FALSE(later.granted()) << "a write overtook a claim that waits";
  first.release();
  sim.settle();
  EXPECT_TRUE(claim.granted());
  EXPECT_FALSE(later.granted());
  claim.release();
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
    auto first = co_await t.acquire(extent, Mode::exclusive);
    InFlight::Entry second = std::move(first);
    first.release();
    EXPECT_EQ(t.size(), 1u);
    const Extent other{4096, 4096};
    auto third = co_await t.acquire(other, Mode::exclusive);
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
    Mode mode;
    bool granted = false;
  };
  using Place = std::list<Request>::iterator;

  Place arrive(Extent extent, Mode mode) {
    return requests_.insert(requests_.end(), {extent, mode, false});
  }
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
    return (a.mode == kExclusive || b.mode == kExclusive) && !intersect(a.extent, b.extent).empty();
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
    const Mode mode = world.random() % 3 ? kShared : kExclusive;
    const Oracle::Place place = world.oracle.arrive(extent, mode);
    auto entry = co_await world.table.acquire(extent, mode);
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
