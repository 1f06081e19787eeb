#include "core/token_bucket.h"

#include <gtest/gtest.h>

#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class TokenBucketTest : public testing::Test {
 protected:
  // Takes whenever it may; the bytes of that time.
  std::uint64_t take_for(std::chrono::milliseconds time, std::uint64_t bytes) {
    const auto end = now_ + time;
    std::uint64_t taken = 0;
    while (bucket_.ready_at() < end) {
      now_ = std::max(now_, bucket_.ready_at());
      bucket_.take(bytes, now_);
      taken += bytes;
    }
    now_ = end;
    return taken;
  }

  TokenBucket bucket_;
  TokenBucket::TimePoint now_{std::chrono::hours(1)};
};

TEST_F(TokenBucketTest, keeps_its_rate_whatever_the_size_of_a_piece) {
  bucket_.set_rate(10 * kMiB, now_);
  for (const std::uint64_t bytes : {kMiB / 16, kMiB, 4 * kMiB}) {
    const auto taken = static_cast<double>(take_for(seconds(20), bytes));
    EXPECT_NEAR(taken, 200.0 * kMiB, 4.5 * kMiB) << bytes;
  }
}

TEST_F(TokenBucketTest, saves_next_to_nothing_up_while_idle) {
  bucket_.set_rate(10 * kMiB, now_);
  now_ += std::chrono::hours(1);
  EXPECT_LE(take_for(seconds(1), kMiB / 16), 11 * kMiB);
}

TEST_F(TokenBucketTest, a_new_rate_holds_for_what_is_owed_too) {
  bucket_.set_rate(4096, now_);
  bucket_.take(4 * kMiB, now_);
  EXPECT_GT(bucket_.ready_at(), now_ + seconds(1000));
  bucket_.set_rate(4 * kMiB, now_);
  EXPECT_EQ(bucket_.ready_at(), now_ + seconds(1));
  bucket_.set_rate(0, now_);
  EXPECT_LE(bucket_.ready_at(), now_);
}

TEST_F(TokenBucketTest, without_a_rate_nothing_waits) {
  bucket_.take(1000 * kMiB, now_);
  EXPECT_LE(bucket_.ready_at(), now_);
}

}  // namespace
}  // namespace clonedev
