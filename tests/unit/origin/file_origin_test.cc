#include "origin/file_origin.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "support/run_on_reactor.h"
#include "support/server_place.h"

namespace clonedev {
namespace {

// On /var/tmp because /tmp may be a tmpfs, which has no O_DIRECT.
std::string noise(std::size_t length) {
  std::string text(length, '\0');
  std::uint32_t state = 1;
  for (char& c : text) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return text;
}

class FileOriginTest : public testing::Test {
 protected:
  ~FileOriginTest() override {
    close();
    std::filesystem::remove_all(folder_);
  }
  std::string put(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  Result<> open(const std::string& path) {
    close();
    origin_ = std::make_unique<FileOrigin>(*reactor_, path);
    return run_on(*reactor_, [this] { return origin_->open(); });
  }
  void close() {
    if (origin_) run_on(*reactor_, [this] { return origin_->close(); });
    origin_.reset();
  }
  std::string refusal(const std::string& path) {
    auto opened = open(path);
    return opened ? "" : opened.error().message();
  }
  std::string identity() {
    auto text = run_on(*reactor_, [this] { return origin_->identity(); });
    return text ? *text : "error: " + text.error().message();
  }
  Result<OriginBytes> read(std::uint64_t offset, std::span<std::byte> buffer) {
    return run_on(*reactor_, [&] { return origin_->read(offset, buffer); });
  }
  std::string read_text(std::uint64_t offset, std::size_t length) {
    const std::size_t room = (length + 4095) / 4096 * 4096;
    std::unique_ptr<char, void (*)(void*)> pages(static_cast<char*>(std::aligned_alloc(4096, room)),
                                                 &std::free);
    auto done = read(offset, {reinterpret_cast<std::byte*>(pages.get()), length});
    return done ? std::string(pages.get(), length) : "error: " + done.error().message();
  }
  std::vector<OriginExtent> extents(Extent range) {
    return *run_on(*reactor_, [&] { return origin_->extents(range); });
  }

  const std::filesystem::path folder_ = make_scratch_folder("/var/tmp/clone-file");
  std::unique_ptr<Reactor> reactor_ = new_reactor();
  std::unique_ptr<FileOrigin> origin_;
};

TEST_F(FileOriginTest, reads_a_file_whatever_the_alignment_and_whatever_its_tail) {
  const std::string content = noise(300'001);
  ASSERT_TRUE(open(put("disk", content)));
  EXPECT_EQ(origin_->size(), content.size());
  EXPECT_EQ(origin_->state(), Origin::State::connected);
  const Extent ranges[] = {{0, 4096}, {8192, 262144}, {0, 300'001}, {299'008, 993},
                           {1, 10},   {4095, 8194},   {300'000, 1}};
  for (const Extent& range : ranges) {
    EXPECT_EQ(read_text(range.offset, range.length), content.substr(range.offset, range.length));
  }
}

TEST_F(FileOriginTest, goes_past_the_page_cache_where_the_file_system_can) {
  const std::string path = put("disk", noise(65536));
  const int probe = ::open(path.c_str(), O_RDONLY | O_DIRECT);
  if (probe < 0) GTEST_SKIP() << "the file system of " << folder_ << " has no O_DIRECT";
  ::close(probe);
  ASSERT_TRUE(open(path));
  EXPECT_TRUE(origin_->direct());
  const std::size_t odd = 100;  // A buffer that is not aligned is read all the same.
  std::vector<std::byte> buffer(8192 + odd);
  EXPECT_TRUE(read(4096, std::span(buffer).subspan(odd)));
  EXPECT_EQ(std::memcmp(buffer.data() + odd, noise(65536).data() + 4096, 8192), 0);
}

TEST_F(FileOriginTest, refuses_what_is_no_disk_with_one_sentence) {
  EXPECT_NE(refusal(folder_ / "nothing").find("there is no such file"), std::string::npos);
  EXPECT_NE(refusal(folder_).find("is a directory"), std::string::npos);
  EXPECT_NE(refusal("/dev/null").find("neither a regular file nor a block device"),
            std::string::npos);
  EXPECT_NE(refusal(put("empty", "")).find("is empty"), std::string::npos);
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  EXPECT_NE(refusal(folder_ / "fifo").find("neither a regular file"), std::string::npos);
  EXPECT_EQ(origin_->state(), Origin::State::down);
  EXPECT_NE(origin_->last_error(), "");
}

TEST_F(FileOriginTest, an_unreadable_file_is_refused_with_the_reason) {
  const std::string path = put("secret", "x");
  ::chmod(path.c_str(), 0);
  if (::access(path.c_str(), R_OK) == 0) GTEST_SKIP() << "root reads everything";
  EXPECT_NE(refusal(path).find("Permission denied"), std::string::npos);
}

TEST_F(FileOriginTest, identity_follows_size_time_and_content) {
  const std::string path = put("disk", noise(1 << 20));
  ASSERT_TRUE(open(path));
  const std::string before = identity();
  EXPECT_TRUE(before.starts_with("file:size=1048576;mtime=")) << before;
  EXPECT_LE(before.size(), 255u);
  ASSERT_TRUE(open(path));
  EXPECT_EQ(identity(), before);

  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << "changed";
  const timespec times[2] = {info.st_atim, info.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);  // Even with its old time.
  ASSERT_TRUE(open(path));
  EXPECT_NE(identity(), before);
}

TEST_F(FileOriginTest, tells_holes_from_data_and_remembers_it) {
  const std::string path = put("disk", "");
  const std::string block(65536, 'x');
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::ftruncate(fd, 1 << 20), 0);
  ASSERT_EQ(::pwrite(fd, block.data(), block.size(), 262144), 65536);
  ASSERT_EQ(::fsync(fd), 0);
  ASSERT_TRUE(open(path));
  const auto all = extents({0, 1 << 20});
  if (all.size() == 1) GTEST_SKIP() << "the file system tells no holes";
  for (int round = 0; round < 2; ++round) {
    const auto parts = extents({4096, (1 << 20) - 4096});
    ASSERT_EQ(parts.size(), 3u);
    EXPECT_EQ(parts[0].extent, (Extent{4096, 262144 - 4096}));
    EXPECT_TRUE(parts[0].zero);
    EXPECT_EQ(parts[1].extent, (Extent{262144, 65536}));
    EXPECT_FALSE(parts[1].zero);
    EXPECT_EQ(parts[2].extent.end(), 1u << 20);
    EXPECT_TRUE(parts[2].zero);
  }
  const auto middle = extents({270000, 4096});
  ASSERT_EQ(middle.size(), 1u);
  EXPECT_EQ(middle[0].extent, (Extent{270000, 4096}));
  EXPECT_FALSE(middle[0].zero);
  ::close(fd);
}

TEST_F(FileOriginTest, a_file_that_became_shorter_is_lost_not_zeroes) {
  const std::string path = put("disk", noise(1 << 20));
  ASSERT_TRUE(open(path));
  std::filesystem::resize_file(path, 4096);
  std::vector<std::byte> buffer(4096);
  const auto done = read(1 << 19, buffer);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::unavailable);
  EXPECT_NE(done.error().message().find("has become shorter"), std::string::npos);
  EXPECT_EQ(origin_->state(), Origin::State::down);
}

TEST_F(FileOriginTest, after_close_nothing_is_read) {
  ASSERT_TRUE(open(put("disk", noise(8192))));
  run_on(*reactor_, [this] { return origin_->close(); });
  EXPECT_EQ(origin_->state(), Origin::State::closed);
  std::vector<std::byte> buffer(4096);
  EXPECT_EQ(read(0, buffer).error().code, Errc::unavailable);
}

// A loop device, when this machine lets us have one.
class Loop {
 public:
  explicit Loop(const std::string& file) {
    const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int number = control < 0 ? -1 : ::ioctl(control, LOOP_CTL_GET_FREE);
    if (control >= 0) ::close(control);
    if (number < 0) return;
    path_ = "/dev/loop" + std::to_string(number);
    fd_ = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
    const int backing = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    attached_ = fd_ >= 0 && backing >= 0 && ::ioctl(fd_, LOOP_SET_FD, backing) == 0;
    if (backing >= 0) ::close(backing);
  }
  ~Loop() {
    if (attached_) ::ioctl(fd_, LOOP_CLR_FD, 0);
    if (fd_ >= 0) ::close(fd_);
  }
  bool attached() const { return attached_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
  bool attached_ = false;
};

TEST_F(FileOriginTest, a_block_device_is_all_data_and_known_by_its_samples) {
  const std::string content = noise(1 << 20);
  const Loop loop(put("disk", content));
  if (!loop.attached()) GTEST_SKIP() << "no loop device may be set up here";
  ASSERT_TRUE(open(loop.path()));
  EXPECT_EQ(origin_->size(), 1u << 20);
  EXPECT_EQ(read_text(4096, 8192), content.substr(4096, 8192));
  const auto parts = extents({0, 1 << 20});
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].extent, (Extent{0, 1 << 20}));
  EXPECT_FALSE(parts[0].zero);
  const std::string id = identity();
  EXPECT_TRUE(id.starts_with("blockdev:size=1048576;samples=")) << id;
  EXPECT_EQ(id, identity());
  close();
}

}  // namespace
}  // namespace clonedev
