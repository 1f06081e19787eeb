#include "io/file_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "io/in_flight.h"
#include "io/iovecs.h"
#include "scratch_folder.h"

namespace clonedev {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kSize = std::uint64_t{8} << 20;
constexpr long kTmpfs = 0x01021994;

// Memory with a chosen misalignment, filled with random bytes.
class Memory {
 public:
  Memory(std::size_t length, std::size_t misalignment, std::uint64_t seed)
      : room_(static_cast<std::byte*>(std::aligned_alloc(4096, (length / 4096 + 2) * 4096))),
        bytes_(room_.get() + misalignment, length) {
    std::mt19937_64 random(seed);
    for (std::size_t at = 0; at < length; at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(&bytes_[at], &word, std::min(sizeof word, length - at));
    }
  }
  std::span<std::byte> span() const { return bytes_; }
  iovec whole() const { return to_iovec(bytes_); }
  // As pieces of that many bytes.
  std::vector<iovec> pieces(std::size_t length) const {
    std::vector<iovec> list;
    for (std::size_t at = 0; at < bytes_.size(); at += length) {
      list.push_back(to_iovec(bytes_.subspan(at, std::min(length, bytes_.size() - at))));
    }
    return list;
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> room_;
  std::span<std::byte> bytes_;
};

bool on_tmpfs(const std::string& folder) {
  struct statfs info {};
  return ::statfs(folder.c_str(), &info) == 0 && info.f_type == kTmpfs;
}

// On the disk of the build directory, and on a tmpfs, which takes no O_DIRECT before Linux 6.6 and
// no FALLOC_FL_ZERO_RANGE.
class FileDeviceTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto reactor = Reactor::create();
    ASSERT_TRUE(reactor.has_value()) << reactor.error().message();
    reactor_ = std::move(*reactor);
    open(kSize);
  }
  void open(std::uint64_t size) {
    device_.reset();
    auto file = ExclusiveFile::create(path("disk" + std::to_string(++files_)), "destination", size);
    ASSERT_TRUE(file.has_value()) << file.error().message();
    device_ = std::make_unique<FileDevice>(*reactor_, pool_, std::move(*file), size);
  }
  std::string path(const std::string& name) const { return folder_.path(name); }
  int fd() const { return device_->file().fd(); }

  Result<> write(std::uint64_t offset, std::span<const iovec> data) {
    return reactor_->run(device_->write(offset, data));
  }
  Result<> read(std::uint64_t offset, std::span<const iovec> data) {
    return reactor_->run(device_->read(offset, data));
  }
  Result<> zero(Extent extent, bool deallocate) {
    return reactor_->run(device_->zero(extent, deallocate));
  }
  // Through a descriptor of its own, after a flush: what others see.
  Bytes stored(Extent extent) {
    EXPECT_TRUE(reactor_->run(device_->flush()).has_value());
    Bytes bytes(extent.length);
    const int other = ::open(device_->file().path().c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(::pread(other, bytes.data(), bytes.size(), static_cast<off_t>(extent.offset)),
              static_cast<ssize_t>(extent.length));
    ::close(other);
    return bytes;
  }
  void expect_stored(std::uint64_t offset, const Memory& memory) {
    const Bytes bytes = stored({offset, memory.span().size()});
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), memory.span().begin()));
  }
  void expect_round_trip(std::uint64_t offset, const Memory& out, std::span<const iovec> out_list,
                         const Memory& in, std::span<const iovec> in_list) {
    EXPECT_TRUE(write(offset, out_list).has_value());
    expect_stored(offset, out);
    EXPECT_TRUE(read(offset, in_list).has_value());
    EXPECT_TRUE(std::equal(in.span().begin(), in.span().end(), out.span().begin()));
  }

  ScratchFolder folder_{GetParam()};
  BufferPool pool_{8 << 20};
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<FileDevice> device_;
  int files_ = 0;
};

INSTANTIATE_TEST_SUITE_P(OnDisk, FileDeviceTest, ::testing::Values(SCRATCH_DIR));
INSTANTIATE_TEST_SUITE_P(OnTmpfs, FileDeviceTest, ::testing::Values("/dev/shm"));

TEST_P(FileDeviceTest, is_opened_in_one_way_and_says_which) {
  const bool direct = (::fcntl(fd(), F_GETFL) & O_DIRECT) != 0;
  EXPECT_EQ(device_->direct(), direct);
  EXPECT_EQ(device_->size(), kSize);
  if (!on_tmpfs(GetParam())) {
    EXPECT_TRUE(direct) << "the build directory should lie on a file system that takes O_DIRECT";
  }
}

TEST_P(FileDeviceTest, writes_and_reads_single_sectors) {
  for (const std::uint64_t sector : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{15},
                                     kSize / device_->sector_size() - 1}) {
    const std::uint32_t length = device_->sector_size();
    const Memory out(length, 0, sector), in(length, 0, 99);
    const iovec out_list = out.whole(), in_list = in.whole();
    expect_round_trip(sector * length, out, {&out_list, 1}, in, {&in_list, 1});
  }
}

TEST_P(FileDeviceTest, takes_memory_of_any_alignment) {
  for (const std::size_t misalignment : {1u, 8u, 511u, 512u, 513u, 4095u}) {
    const Memory out(3 << 20, misalignment, misalignment), in(3 << 20, misalignment, 99);
    const iovec out_list = out.whole(), in_list = in.whole();
    expect_round_trip(4096, out, {&out_list, 1}, in, {&in_list, 1});
    EXPECT_EQ(pool_.in_use(), 0u);
  }
}

// How far a transfer was before the reactor asked its backend for anything.
enum class Was { begun, ended_at_once, ended_in_its_turn, waiting };

Task<Result<>> watch(Reactor& reactor, Task<Result<>> transfer, Was& was) {
  was = transfer.done() ? Was::ended_at_once : Was::begun;
  co_await reactor.turn();
  if (was == Was::begun) was = transfer.done() ? Was::ended_in_its_turn : Was::waiting;
  auto outcome = co_await std::move(transfer);
  co_return outcome;
}

TEST_P(FileDeviceTest, transfers_by_itself_only_a_little_and_in_memory) {
  for (const std::size_t length : {4096u, 65536u, 65536u + 4096u}) {
    const Was expected =
        on_tmpfs(GetParam()) && length <= 65536 ? Was::ended_in_its_turn : Was::waiting;
    const Memory data(length, 0, 5);
    const Memory back(length, 0, 6);
    const iovec from = data.whole();
    const iovec into = back.whole();
    Was written{};
    Was read{};
    const auto write_it = [&] {
      return watch(*reactor_, device_->write(4096, {&from, 1}), written);
    };
    const auto read_it = [&] { return watch(*reactor_, device_->read(4096, {&into, 1}), read); };
    ASSERT_TRUE(reactor_->run(write_it).has_value());
    ASSERT_TRUE(reactor_->run(read_it).has_value());
    EXPECT_EQ(written, expected) << length;
    EXPECT_EQ(read, expected) << length;
    EXPECT_TRUE(std::ranges::equal(data.span(), back.span()));
    expect_stored(4096, data);
  }
}

Task<> expect_done(Task<Result<>> first, Task<Result<>> second, Task<Result<>> third) {
  const auto one = co_await std::move(first);
  const auto two = co_await std::move(second);
  const auto three = co_await std::move(third);
  EXPECT_TRUE(one && two && three);
}

// The inode's lock is held by the large one, however long that takes.
TEST_P(FileDeviceTest, writes_nothing_by_itself_while_a_large_write_is_under_way) {
  const Memory data(1 << 20, 0, 5);
  const Memory back(4096, 0, 6);
  const iovec large = data.whole();
  const iovec small = to_iovec(data.span().first(4096));
  const iovec into = back.whole();
  Was written{};
  Was read{};
  const auto all = [&]() {
    Task<Result<>> before = device_->write(4096, {&large, 1});
    Task<Result<>> beside = watch(*reactor_, device_->write(0, {&small, 1}), written);
    Task<Result<>> reading = watch(*reactor_, device_->read(0, {&into, 1}), read);
    return expect_done(std::move(before), std::move(beside), std::move(reading));
  };
  reactor_->run(all);
  EXPECT_EQ(written, Was::waiting);
  EXPECT_EQ(read, on_tmpfs(GetParam()) ? Was::ended_in_its_turn : Was::waiting);
  expect_stored(4096, data);
  const auto alone = [&] { return watch(*reactor_, device_->write(0, {&small, 1}), written); };
  ASSERT_TRUE(reactor_->run(alone).has_value());
  EXPECT_EQ(written, on_tmpfs(GetParam()) ? Was::ended_in_its_turn : Was::waiting);
}

TEST_P(FileDeviceTest, takes_more_pieces_than_one_system_call_does) {
  for (const std::size_t piece : {512u, 4096u, 700u, 3u}) {
    const std::size_t length = piece * 3000 / 4096 * 4096;
    const Memory out(length, 0, piece), in(length, 0, 99);
    expect_round_trip(8192, out, out.pieces(piece), in, in.pieces(piece));
  }
}

TEST_P(FileDeviceTest, does_nothing_for_an_empty_list) {
  EXPECT_TRUE(write(0, {}).has_value());
  EXPECT_TRUE(read(0, {}).has_value());
  EXPECT_TRUE(zero({4096, 0}, true).has_value());
  EXPECT_TRUE(reactor_->run(device_->discard({4096, 0})).has_value());
}

class Blocks {
 public:
  explicit Blocks(int fd) : fd_(fd) {}
  bool hole(Extent extent) const {
    const off_t data = ::lseek(fd_, static_cast<off_t>(extent.offset), SEEK_DATA);
    return data < 0 || data >= static_cast<off_t>(extent.end());
  }
  std::uint64_t allocated() const {
    struct stat info {};
    ::fstat(fd_, &info);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
  }

 private:
  int fd_;
};

TEST_P(FileDeviceTest, zeroes_a_range_and_no_byte_beside_it) {
  const Memory data(1 << 20, 0, 1);
  const iovec list = data.whole();
  for (const bool deallocate : {false, true}) {
    for (const Extent hole : {Extent{65536, 131072}, Extent{512, 512}, Extent{4608, 12288}}) {
      EXPECT_TRUE(write(0, {&list, 1}).has_value());
      EXPECT_TRUE(zero(hole, deallocate).has_value());
      Bytes expected(data.span().begin(), data.span().end());
      const auto first = expected.begin() + static_cast<std::ptrdiff_t>(hole.offset);
      std::fill(first, first + static_cast<std::ptrdiff_t>(hole.length), std::byte{0});
      EXPECT_EQ(stored({0, 1 << 20}), expected) << hole.offset << " " << deallocate;
    }
  }
  EXPECT_EQ(device_->file().size(), kSize);
}

TEST_P(FileDeviceTest, gives_space_back_only_when_it_deallocates) {
  const Memory data(1 << 20, 0, 1);
  const iovec list = data.whole();
  const Extent range{262144, 524288};
  const Blocks blocks(fd());
  EXPECT_TRUE(write(0, {&list, 1}).has_value());
  (void)stored({0, 512});
  const std::uint64_t before = blocks.allocated();
  EXPECT_TRUE(zero(range, false).has_value());
  EXPECT_GE(blocks.allocated(), before);
  EXPECT_TRUE(zero(range, true).has_value());
  EXPECT_LE(blocks.allocated(), before - range.length);
  EXPECT_TRUE(blocks.hole(range));
  EXPECT_FALSE(blocks.hole({0, range.offset}));
}

TEST_P(FileDeviceTest, zeroes_more_than_a_chunk) {
  const Memory data(kSize, 0, 1);
  const iovec list = data.whole();
  EXPECT_TRUE(write(0, {&list, 1}).has_value());
  EXPECT_TRUE(zero({4096, kSize - 8192}, false).has_value());
  const Bytes bytes = stored({4096, kSize - 8192});
  EXPECT_TRUE(
      std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{}; }));
  EXPECT_EQ(stored({0, 1})[0], data.span()[0]);
  EXPECT_EQ(stored({kSize - 1, 1})[0], data.span()[kSize - 1]);
}

TEST_P(FileDeviceTest, discards_by_punching) {
  const Memory data(1 << 20, 0, 1);
  const iovec list = data.whole();
  EXPECT_TRUE(write(0, {&list, 1}).has_value());
  EXPECT_TRUE(reactor_->run(device_->discard({4096, 65536})).has_value());
  EXPECT_TRUE(Blocks(fd()).hole({4096, 65536}));
}

TEST_P(FileDeviceTest, fails_a_read_past_the_end_and_of_a_file_that_shrank) {
  const Memory data(8192, 0, 1);
  const iovec list = data.whole();
  const auto past = read(kSize - 4096, {&list, 1});
  EXPECT_FALSE(past.has_value());
  EXPECT_EQ(past.error().code, Errc::destination_read);
  EXPECT_EQ(::ftruncate(fd(), 6000), 0);
  const auto shrunk = read(0, {&list, 1});
  EXPECT_FALSE(shrunk.has_value());
  EXPECT_EQ(shrunk.error().code, Errc::destination_read);
  EXPECT_NE(shrunk.error().message().find(device_->file().path()), std::string::npos);
}

// Files may not grow over this size for a scope; writes beyond it fail with EFBIG.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t size) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{size, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST_P(FileDeviceTest, fails_a_write_that_could_be_done_in_part_only) {
  EXPECT_EQ(::ftruncate(fd(), 0), 0);
  for (const std::size_t possible : {65536u, 32768u}) {
    const SizeLimit limit(possible);
    for (const std::size_t misalignment : {0u, 1u}) {
      const Memory data(2 * possible, misalignment, 1);
      const iovec list = data.whole();
      const auto written = write(0, {&list, 1});
      ASSERT_FALSE(written.has_value());
      EXPECT_EQ(written.error().code, Errc::destination_write);
      EXPECT_EQ(pool_.in_use(), 0u);
    }
  }
}

TEST_P(FileDeviceTest, takes_a_size_of_odd_sectors) {
  open(4096 + 512);
  EXPECT_EQ(device_->sector_size(), 512u);
  const Memory out(512, 0, 1), in(512, 0, 99);
  const iovec out_list = out.whole(), in_list = in.whole();
  expect_round_trip(4096, out, {&out_list, 1}, in, {&in_list, 1});
}

// Several users at once, each on ranges that no other is changing, against a shadow in memory.
struct Shadow {
  Shadow(Reactor& r, FileDevice& d, std::uint64_t seed) : reactor(r), device(d), random(seed) {}
  Reactor& reactor;
  FileDevice& device;
  std::mt19937_64 random;
  InFlight table;
  Bytes bytes = Bytes(kSize);
};

Task<> one_random_operation(Shadow& shadow, Extent extent) {
  std::mt19937_64& random = shadow.random;
  const auto shadowed = std::span(shadow.bytes).subspan(extent.offset, extent.length);
  const Memory memory(extent.length, random() % 2 ? 0 : random() % 4096, random());
  const std::vector<iovec> list = memory.pieces(random() % 2 ? 4096 : 1 + random() % 9000);
  const std::span<const iovec> data(list);
  const unsigned kind = random() % 8;
  Result<> done;
  if (kind < 4) {
    done = co_await shadow.device.write(extent.offset, data);
    std::copy(memory.span().begin(), memory.span().end(), shadowed.begin());
  } else if (kind < 6) {
    const bool deallocate = kind == 4;
    done = co_await shadow.device.zero(extent, deallocate);
    std::fill(shadowed.begin(), shadowed.end(), std::byte{0});
  } else {
    done = co_await shadow.device.read(extent.offset, data);
    EXPECT_TRUE(std::equal(shadowed.begin(), shadowed.end(), memory.span().begin()))
        << extent.offset << " +" << extent.length;
  }
  EXPECT_TRUE(done.has_value());
}

Task<> random_user(Shadow& shadow, int operations) {
  const std::uint64_t sectors = kSize / shadow.device.sector_size();
  for (int i = 0; i < operations; ++i) {
    const std::uint64_t first = shadow.random() % sectors;
    const std::uint64_t count = 1 + shadow.random() % std::min<std::uint64_t>(sectors - first, 300);
    const Extent extent{first * shadow.device.sector_size(), count * shadow.device.sector_size()};
    const auto entry = co_await shadow.table.acquire(extent);
    co_await one_random_operation(shadow, extent);
  }
}

Task<> random_users(Shadow& shadow, int users, int operations) {
  std::deque<Task<>> tasks;
  for (int i = 0; i < users; ++i) tasks.push_back(random_user(shadow, operations));
  for (Task<>& task : tasks) co_await task;
}

TEST_P(FileDeviceTest, equals_a_shadow_after_many_operations_at_once) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    open(kSize);
    Shadow shadow(*reactor_, *device_, seed);
    reactor_->run(random_users(shadow, 16, 40));
    EXPECT_TRUE(stored({0, kSize}) == shadow.bytes);
    EXPECT_EQ(pool_.in_use(), 0u);
  }
}

}  // namespace
}  // namespace clonedev
