#include "io/spare_pages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace clonedev {
namespace {

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;

class SparePagesTest : public testing::Test {
 protected:
  const std::shared_ptr<SparePages> store_ = SparePages::create(4 * kMiB);
};

TEST_F(SparePagesTest, gives_aligned_memory_of_any_length) {
  for (const std::size_t length : {std::size_t{1}, 4096 * kKiB, 5 * kKiB, 3 * kMiB + 1}) {
    const SparePages::Pages pages = store_->take(length);
    ASSERT_TRUE(pages);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(pages.get()) % 4096, 0U);
    std::memset(pages.get(), 0x5a, length);
  }
}

TEST_F(SparePagesTest, uses_the_same_pages_again) {
  SparePages::Pages pages = store_->take(kMiB);
  const std::byte* first = pages.get();
  pages.reset();
  EXPECT_EQ(store_->spare(), kMiB);
  pages = store_->take(kMiB - 1);
  EXPECT_EQ(pages.get(), first);
  EXPECT_EQ(store_->spare(), 0U);
}

TEST_F(SparePagesTest, gives_nothing_twice) {
  const SparePages::Pages first = store_->take(kMiB);
  const SparePages::Pages second = store_->take(kMiB);
  EXPECT_NE(first, second);
}

TEST_F(SparePagesTest, keeps_no_more_than_it_may_and_the_latest) {
  {
    const std::vector<SparePages::Pages> many = {store_->take(kMiB), store_->take(2 * kMiB),
                                                 store_->take(4 * kMiB)};
  }
  EXPECT_LE(store_->spare(), 4 * kMiB);
  EXPECT_GT(store_->spare(), 0U);
  store_->take(8 * kMiB).reset();
  EXPECT_LE(store_->spare(), 4 * kMiB) << "larger than all that may be spare";
}

TEST_F(SparePagesTest, trim_frees_what_is_spare_only) {
  const SparePages::Pages used = store_->take(kMiB);
  store_->take(kMiB).reset();
  store_->trim();
  EXPECT_EQ(store_->spare(), 0U);
  std::memset(used.get(), 1, kMiB);
}

TEST_F(SparePagesTest, nothing_is_spare_once_it_is_closed) {
  SparePages::Pages used = store_->take(kMiB);
  store_->take(kMiB).reset();
  store_->close();
  EXPECT_EQ(store_->spare(), 0U);
  used.reset();
  EXPECT_EQ(store_->spare(), 0U);
}

TEST_F(SparePagesTest, pages_outlive_who_holds_the_store) {
  auto store = SparePages::create(kMiB);
  const SparePages::Pages pages = store->take(kKiB);
  store.reset();
  std::memset(pages.get(), 1, kKiB);
}

TEST_F(SparePagesTest, threads_give_back_what_others_took) {
  std::vector<std::thread> threads;
  for (unsigned char mark = 1; mark <= 4; ++mark) {
    threads.emplace_back([this, mark] {
      for (std::size_t i = 0; i < 500; ++i) {
        const SparePages::Pages pages = store_->take((i % 7 + 1) * 16 * kKiB);
        pages.get()[0] = std::byte{mark};
        std::thread([pages] {}).join();
        EXPECT_EQ(pages.get()[0], std::byte{mark});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace clonedev
