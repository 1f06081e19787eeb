#include "io/buffer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <list>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "io/event.h"
#include "io/task.h"
#include "support/sim_scheduler.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using Use = BufferPool::Use;
using std::chrono::microseconds;

// Asks for a buffer and keeps it until told to let it go.
class BufferHolder {
 public:
  BufferHolder(BufferPool& pool, std::size_t length, Use use) { spawn(hold(pool, length, use)); }
  ~BufferHolder() { release_.set(); }

  bool granted() const { return granted_; }
  std::span<std::byte> span() const { return span_; }
  void release() { release_.set(); }

 private:
  Task<> hold(BufferPool& pool, std::size_t length, Use use) {
    const BufferPool::Buffer buffer = co_await pool.acquire(length, use);
    granted_ = true;
    span_ = buffer.span();
    co_await release_.wait();
    granted_ = false;
  }

  bool granted_ = false;
  std::span<std::byte> span_;
  Event release_;
};

class BufferPoolTest : public ::testing::Test {
 protected:
  BufferHolder& take(std::size_t length, Use use) {
    return holders_.emplace_back(pool_, length, use);
  }
  void release(BufferHolder& holder) {
    holder.release();
    sim_.settle();
  }
  void TearDown() override {
    for (BufferHolder& holder : holders_) release(holder);
    EXPECT_EQ(pool_.in_use(), 0u);
  }

  SimScheduler sim_;
  BufferPool pool_{8 * kMiB};
  std::list<BufferHolder> holders_;
};

TEST_F(BufferPoolTest, gives_page_aligned_memory_of_the_length_asked_for) {
  for (const std::size_t length : {1u, 512u, 4096u, 4097u, 1u << 20}) {
    const BufferHolder& holder = take(length, Use::command);
    EXPECT_TRUE(holder.granted());
    EXPECT_EQ(holder.span().size(), length);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(holder.span().data()) % 4096, 0u);
    std::memset(holder.span().data(), 0xa5, length);
  }
}

TEST_F(BufferPoolTest, counts_whole_pages_and_never_gives_more_than_it_has) {
  EXPECT_EQ(pool_.capacity(), 8 * kMiB);
  take(4 * kMiB, Use::command);
  BufferHolder& tiny = take(1, Use::command);
  EXPECT_EQ(pool_.in_use(), 4 * kMiB + 4096);
  const BufferHolder& too_much = take(4 * kMiB, Use::command);
  EXPECT_FALSE(too_much.granted());
  release(tiny);
  EXPECT_TRUE(too_much.granted());
  EXPECT_EQ(pool_.in_use(), 8 * kMiB);
}

TEST_F(BufferPoolTest, keeps_a_quarter_from_background_work) {
  BufferHolder& copy = take(4 * kMiB, Use::background);
  take(2 * kMiB, Use::background);
  const BufferHolder& one_page_more = take(1, Use::background);
  EXPECT_FALSE(one_page_more.granted());
  const BufferHolder& command = take(2 * kMiB, Use::command);
  EXPECT_TRUE(command.granted());
  release(copy);
  EXPECT_TRUE(one_page_more.granted());
}

TEST_F(BufferPoolTest, counts_what_commands_hold_against_the_share_of_background_work) {
  take(4 * kMiB, Use::command);
  take(2 * kMiB, Use::command);
  EXPECT_FALSE(take(4096, Use::background).granted());
}

TEST_F(BufferPoolTest, serves_waiters_in_order_however_small_the_later_ones_are) {
  BufferHolder& first = take(4 * kMiB, Use::command);
  take(3 * kMiB, Use::command);
  const BufferHolder& large = take(4 * kMiB, Use::command);
  const BufferHolder& small = take(4096, Use::command);
  EXPECT_FALSE(large.granted());
  EXPECT_FALSE(small.granted()) << "a small request overtook a large one";
  release(first);
  EXPECT_TRUE(large.granted());
  EXPECT_TRUE(small.granted());
}

TEST_F(BufferPoolTest, serves_commands_before_background_work_that_came_first) {
  BufferHolder& first = take(4 * kMiB, Use::background);
  BufferHolder& second = take(4 * kMiB, Use::command);
  const BufferHolder& background = take(4096, Use::background);
  const BufferHolder& command = take(4 * kMiB, Use::command);
  EXPECT_FALSE(background.granted());
  EXPECT_FALSE(command.granted());
  release(second);
  EXPECT_TRUE(command.granted());
  EXPECT_FALSE(background.granted());
  release(first);
  EXPECT_TRUE(background.granted());
}

TEST_F(BufferPoolTest, makes_one_piece_again_of_pieces_given_back_in_any_order) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::vector<BufferHolder*> pieces;
    while (pool_.in_use() < pool_.capacity() && !HasFailure()) {
      const std::size_t room = pool_.capacity() - pool_.in_use();
      pieces.push_back(&take(std::min(room, 4096 * (1 + random() % 64)), Use::command));
      EXPECT_TRUE(pieces.back()->granted());
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    for (BufferHolder* piece : pieces) release(*piece);
    BufferHolder& low = take(BufferPool::kLargest, Use::command);
    BufferHolder& high = take(BufferPool::kLargest, Use::command);
    EXPECT_TRUE(low.granted() && high.granted());
    release(low);
    release(high);
  }
}

TEST_F(BufferPoolTest, gives_back_once_however_a_buffer_is_moved) {
  sim_.run([](BufferPool& pool) -> Task<> {
    BufferPool::Buffer first = co_await pool.acquire(4096, Use::command);
    BufferPool::Buffer second = std::move(first);
    EXPECT_FALSE(first);
    EXPECT_TRUE(second);
    first = co_await pool.acquire(8192, Use::command);
    EXPECT_EQ(pool.in_use(), 12288u);
    first = BufferPool::Buffer();
    EXPECT_EQ(pool.in_use(), 4096u);
  }(pool_));
}

TEST_F(BufferPoolTest, can_be_used_again_after_its_memory_went_back_to_the_system) {
  BufferHolder& before = take(kMiB, Use::command);
  std::memset(before.span().data(), 1, kMiB);
  pool_.trim();
  EXPECT_EQ(before.span()[5], std::byte{1}) << "trimmed under a user";
  release(before);
  pool_.trim();
  const BufferHolder& after = take(kMiB, Use::command);
  std::memset(after.span().data(), 2, kMiB);
}

struct Crowd {
  explicit Crowd(std::uint64_t seed) : sim(seed + 1), random(seed) {}
  SimScheduler sim;
  std::mt19937_64 random;
  BufferPool pool{6 * kMiB};
  int rounds = 0;
};

// Marks the ends of its buffer and finds them unchanged later: nobody else has the same memory.
Task<> use_buffers(Crowd& crowd, unsigned id) {
  const Use use = id % 2 ? Use::command : Use::background;
  for (int i = 0; i < 40; ++i) {
    const std::size_t length = 1 + crowd.random() % (i % 8 ? 256 * 1024 : BufferPool::kLargest);
    const BufferPool::Buffer buffer = co_await crowd.pool.acquire(length, use);
    EXPECT_LE(crowd.pool.in_use(), crowd.pool.capacity());
    const auto bytes = buffer.span();
    const auto mark = static_cast<std::byte>(id + 1);
    for (std::size_t at = 0; at < length; at += 4096) bytes[at] = mark;
    bytes[length - 1] = mark;
    const microseconds pause(crowd.random() % 100);
    co_await crowd.sim.sleep_for(pause);
    bool mine = bytes[length - 1] == mark;
    for (std::size_t at = 0; at < length; at += 4096) mine = mine && bytes[at] == mark;
    EXPECT_TRUE(mine) << "two buffers overlap";
    ++crowd.rounds;
  }
}

TEST(BufferPool, gives_every_byte_to_one_user_and_everybody_a_turn) {
  for (std::uint64_t seed = 1; seed <= 15; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Crowd crowd(seed);
    for (unsigned id = 0; id < 16; ++id) spawn(use_buffers(crowd, id));
    while (crowd.sim.step()) {
    }
    EXPECT_EQ(crowd.rounds, 16 * 40);
    EXPECT_EQ(crowd.pool.in_use(), 0u);
  }
}

}  // namespace
}  // namespace clonedev
