#include "metadata/live_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <random>

#include "clone_fixture.h"
#include "core/state_map.h"

namespace clonedev {
namespace {

Result<std::unique_ptr<LiveMap>> adopt(const std::string& dir, const Id& uuid, const Id& id,
                                       std::uint64_t pages) {
  return LiveMap::adopt(dir, uuid, id, pages * kPerPage, BlockState::zero);
}

class LiveMapTest : public testing::Test {
 protected:
  std::unique_ptr<LiveMap> create(std::size_t pages = 8) {
    auto live = LiveMap::create(dir.path(), uuid, first, pages * kPerPage);
    EXPECT_TRUE(live) << live.error().message();
    return live ? std::move(*live) : nullptr;
  }
  std::uint64_t memory() {
    struct stat file {};
    stat(LiveMap::path_of(dir.path(), uuid).c_str(), &file);
    return static_cast<std::uint64_t>(file.st_blocks) * 512;
  }

  ScratchDir dir;
  const Id uuid = id_of(7);
  const Id first = id_of(1);
  const Id second = id_of(2);
};

TEST_F(LiveMapTest, is_adopted_with_all_its_states) {
  {
    auto live = create();
    StateMap map(Geometry(8 * kPageCoversBytes, 4096), *live);
    ASSERT_TRUE(map.set({5, 100}, BlockState::destination));
    ASSERT_TRUE(map.set({2 * kPerPage, kPerPage}, BlockState::zero));
  }
  auto again = adopt(dir.path(), uuid, first, 8);
  ASSERT_TRUE(again) << again.error().message();
  StateMap map(Geometry(8 * kPageCoversBytes, 4096), **again);
  EXPECT_EQ(map.counts().destination, 100u);
  EXPECT_EQ(map.counts().zero, kPerPage);
  EXPECT_EQ(map.at(4), BlockState::origin);
  EXPECT_EQ(map.at(5), BlockState::destination);
}

TEST_F(LiveMapTest, uniform_pages_cost_no_memory) {
  auto live = create(16384);
  const std::uint64_t empty = memory();
  EXPECT_LE(empty, 64u * 1024);
  ASSERT_TRUE(live->allocate(3, 0));
  live->set_kind(3, PageKind::mixed);
  EXPECT_EQ(memory(), empty + 4096);
  live->set_kind(3, PageKind::destination);
  live->reclaim();
  EXPECT_EQ(memory(), empty);
}

TEST_F(LiveMapTest, a_disk_of_many_pages_grows_and_gives_memory_back_around_units_of_kinds) {
  auto live = create(4000);
  ASSERT_TRUE(live->lengthen(9000 * kPerPage));
  live->grow(9000 * kPerPage, BlockState::zero);
  EXPECT_EQ(live->pages(), 9000u);
  EXPECT_EQ(live->kind(3999), PageKind::origin);
  EXPECT_EQ(live->kind(8999), PageKind::zero);
  const std::uint64_t empty = memory();
  for (std::size_t page = 4090; page < 4100; ++page) {
    ASSERT_TRUE(live->allocate(page, ~std::uint64_t{0}));
    live->set_kind(page, PageKind::mixed);
  }
  EXPECT_EQ(memory(), empty + 10 * 4096);
  for (std::size_t page = 4090; page < 4100; ++page) live->set_kind(page, PageKind::destination);
  live->reclaim();
  EXPECT_EQ(memory(), empty);
  for (std::size_t page = 4090; page < 4100; ++page) {
    EXPECT_EQ(live->kind(page), PageKind::destination);
  }
  EXPECT_EQ(live->kind(4100), PageKind::zero);
  live.reset();
  auto again = adopt(dir.path(), uuid, first, 9000);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ((*again)->kind(4099), PageKind::destination);
  EXPECT_EQ((*again)->kind(8999), PageKind::zero);
}

// Its process died when the superblock had the larger size and the live map not yet.
TEST_F(LiveMapTest, blocks_it_does_not_speak_of_are_added_when_it_is_adopted) {
  const std::uint64_t before = 2 * kPerPage - 40;
  ASSERT_TRUE(LiveMap::create(dir.path(), uuid, first, before));
  for (const std::uint64_t blocks : {before + 7, before + 40, 5 * kPerPage + 1}) {
    auto live = LiveMap::adopt(dir.path(), uuid, first, blocks, BlockState::zero);
    ASSERT_TRUE(live) << live.error().message();
    const StateMap map(Geometry(blocks * kBlockSize, 4096), **live);
    EXPECT_EQ(map.counts().origin, before);
    EXPECT_EQ(map.counts().zero, blocks - before);
    EXPECT_EQ(map.run({0, blocks}).blocks.count, before);
  }
  EXPECT_EQ(LiveMap::adopt(dir.path(), uuid, first, before, BlockState::zero).error().code,
            make_error_code(Errc::damaged))
      << "no disk shrinks";
}

// A second partial page may find no room after the first one got some: that is taken back.
TEST_F(LiveMapTest, memory_that_was_never_published_is_reclaimed) {
  auto live = create();
  const std::uint64_t empty = memory();
  ASSERT_TRUE(live->allocate(3, 0));
  ASSERT_TRUE(live->allocate(4, 0));
  live->set_kind(4, PageKind::mixed);
  live->reclaim();
  EXPECT_EQ(memory(), empty + 4096);
  EXPECT_EQ(live->words(4)[0], 0u);
}

TEST_F(LiveMapTest, only_its_own_clone_and_attachment_may_adopt_it) {
  create();
  EXPECT_EQ(adopt(dir.path(), uuid, second, 8).error().code, make_error_code(Errc::foreign));
  EXPECT_EQ(adopt(dir.path(), id_of(8), first, 8).error().code, make_error_code(Errc::unavailable));
  std::filesystem::rename(LiveMap::path_of(dir.path(), uuid),
                          LiveMap::path_of(dir.path(), id_of(8)));
  EXPECT_EQ(adopt(dir.path(), id_of(8), first, 8).error().code, make_error_code(Errc::foreign));
}

TEST_F(LiveMapTest, both_ids_count_until_the_next_adoption_is_confirmed) {
  create()->propose_id(second);
  EXPECT_TRUE(adopt(dir.path(), uuid, first, 8));
  {
    auto live = adopt(dir.path(), uuid, second, 8);
    ASSERT_TRUE(live);
    (*live)->propose_id(id_of(3));
  }
  EXPECT_TRUE(adopt(dir.path(), uuid, second, 8)) << "the superblock still has it";
  EXPECT_FALSE(adopt(dir.path(), uuid, first, 8));
  {
    auto live = adopt(dir.path(), uuid, second, 8);
    ASSERT_TRUE(live);
    (*live)->propose_id(id_of(4));
    (*live)->confirm_id();
  }
  EXPECT_TRUE(adopt(dir.path(), uuid, id_of(4), 8));
  EXPECT_FALSE(adopt(dir.path(), uuid, second, 8));
}

TEST_F(LiveMapTest, a_file_that_is_not_sound_is_refused) {
  const std::string path = LiveMap::path_of(dir.path(), uuid);
  const auto poke = [&](std::streamoff where, char value) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(where);
    file.put(value);
  };
  create();
  EXPECT_EQ(adopt(dir.path(), uuid, first, 7).error().code, make_error_code(Errc::damaged));
  poke(0, 'x');
  EXPECT_EQ(adopt(dir.path(), uuid, first, 8).error().code, make_error_code(Errc::damaged));
  create();
  poke(4096 + 2, 9);
  EXPECT_EQ(adopt(dir.path(), uuid, first, 8).error().code, make_error_code(Errc::damaged));
  std::filesystem::resize_file(path, 4096);
  EXPECT_EQ(adopt(dir.path(), uuid, first, 8).error().code, make_error_code(Errc::damaged));
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/etc/passwd", path);
  EXPECT_FALSE(adopt(dir.path(), uuid, first, 8));
}

TEST_F(LiveMapTest, remembers_compare_and_writes_of_an_earlier_life_once_each) {
  {
    auto live = create();
    live->remember_caw(4096, 1, 2);
    EXPECT_FALSE(live->caw_done_before(4096, 1, 2)) << "it is of this life";
  }
  for (int life = 0; life < 2; ++life) {
    auto live = adopt(dir.path(), uuid, first, 8);
    ASSERT_TRUE(live);
    EXPECT_FALSE((*live)->caw_done_before(4096, 2, 1));
    EXPECT_TRUE((*live)->caw_done_before(4096, 1, 2));
    EXPECT_FALSE((*live)->caw_done_before(4096, 1, 2)) << "once";
    (*live)->remember_caw(8192, 1, 2);
    EXPECT_EQ((*live)->caw_done_before(8192, 1, 2) != 0, life == 1);
  }
  auto live = adopt(dir.path(), uuid, first, 8);
  for (std::uint64_t i = 0; i < 64; ++i) (*live)->remember_caw(i, i, i);
  live = adopt(dir.path(), uuid, first, 8);
  EXPECT_FALSE((*live)->caw_done_before(4096, 1, 2)) << "only the last 64";
  for (std::uint64_t i = 0; i < 64; ++i) EXPECT_TRUE((*live)->caw_done_before(i, i, i));
}

TEST_F(LiveMapTest, full_tmpfs_is_an_answer_and_changes_nothing) {
  if (mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=48k") != 0) {
    GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  }
  {
    auto live = create(64);
    StateMap map(Geometry(64 * kPageCoversBytes, 4096), *live);
    std::size_t page = 0;
    while (page < 64 && map.set({page * kPerPage + 7, 1}, BlockState::destination)) ++page;
    EXPECT_GT(page, 2u);
    EXPECT_LT(page, 12u);
    const Picture before = picture_of(map);
    // The first page of the range would fit in place of nothing; the last one would not.
    EXPECT_FALSE(map.set({page * kPerPage - 1, kPerPage}, BlockState::zero));
    EXPECT_FALSE(map.set({20 * kPerPage + 1, 3 * kPerPage}, BlockState::zero));
    EXPECT_EQ(picture_of(map), before);
    EXPECT_TRUE(map.set({30 * kPerPage, kPerPage}, BlockState::zero)) << "whole pages need none";
    EXPECT_TRUE(map.set({0, kPerPage}, BlockState::destination));
    live->reclaim();
    EXPECT_TRUE(map.set({40 * kPerPage, 1}, BlockState::destination)) << "memory came back";
    EXPECT_EQ(LiveMap::create(dir.path(), id_of(8), first, kPerPage << 20).error().code,
              make_error_code(Errc::live_map_full));
    EXPECT_FALSE(std::filesystem::exists(LiveMap::path_of(dir.path(), id_of(8)) + ".new"));
  }
  umount(dir.path().c_str());
}

// A child changes the map as fast as it can and is killed at a random moment. It announces each
// change before, and confirms it after, in a shared page; what was confirmed must be there, what
// was never announced must not, and the file must be sound.
TEST_F(LiveMapTest, bears_being_killed_at_any_moment) {
  struct Journal {
    volatile std::uint64_t announced;
    volatile std::uint64_t confirmed;
  };
  constexpr std::size_t kPages = 4;
  const Geometry geometry(kPages * kPageCoversBytes, 4096);
  const auto change = [](StateMap& map, std::uint64_t step) {
    std::mt19937_64 random(step);
    const std::uint64_t at = random() % (kPages * kPerPage);
    const std::uint64_t length = random() % (random() % 4 ? 100 : 3 * kPerPage) + 1;
    const BlockRange range{at, std::min(length, kPages * kPerPage - at)};
    return map.set(range, static_cast<BlockState>(random() % 3));
  };
  for (int round = 0; round < 60; ++round) {
    auto live = create(kPages);
    void* shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto* journal = static_cast<Journal*>(shared);
    const pid_t child = fork();
    if (child == 0) {
      StateMap map(geometry, *live);
      for (std::uint64_t step = 1; step < 1'000'000; ++step) {
        journal->announced = step;
        if (!change(map, step)) _exit(1);
        if (step % 16 == 0) live->reclaim();
        journal->confirmed = step;
      }
      _exit(0);
    }
    usleep(static_cast<useconds_t>(500 + round * 137));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    live.reset();
    HeapStatePages before_pages(kPages), after_pages(kPages);
    StateMap before(geometry, before_pages), after(geometry, after_pages);
    for (std::uint64_t step = 1; step <= journal->confirmed; ++step) {
      ASSERT_TRUE(change(before, step) && change(after, step));
    }
    if (journal->announced > journal->confirmed) {
      ASSERT_TRUE(change(after, journal->announced));
    }
    auto again = adopt(dir.path(), uuid, first, kPages);
    ASSERT_TRUE(again) << again.error().message();
    StateMap found(geometry, **again);
    for (std::uint64_t block = 0; block < geometry.blocks(); ++block) {
      const BlockState state = found.at(block);
      ASSERT_TRUE(state == before.at(block) || state == after.at(block))
          << "round " << round << " step " << journal->announced << " block " << block;
    }
    munmap(shared, 4096);
  }
}

}  // namespace
}  // namespace clonedev
