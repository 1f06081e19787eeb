// On real files: a creation that failed late left formatted metadata behind, an old copy of the
// metadata was taken for the newest, and a file origin that was written in use was read on.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <map>

#include "clonedev/clone_device.h"
#include "support/clone_rig.h"
#include "support/sizes.h"
#include "support/small_tmpfs.h"

namespace clonedev {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSize = std::size_t{1} << 20;

std::string text(std::uint64_t number, std::size_t length) {
  const Bytes bytes = pattern(number, length);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void put(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class FilesThatChange : public testing::Test {
 protected:
  FilesThatChange() {
    std::string name = "/dev/shm/files-that-change-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    put(folder_ / "origin", text(1, kSize));
    request_.name = "vm1";
    request_.size_bytes = kSize;
    request_.options.origin = folder_ / "origin";
    request_.options.dest = folder_ / "vm1.img";
    request_.options.meta = folder_ / "vm1.meta";
    request_.options.hydration = false;
    request_.site = {folder_ / "state", folder_ / "run", false};
  }
  ~FilesThatChange() override { fs::remove_all(folder_); }

  Result<> write(CloneDevice& device, std::uint64_t offset, std::string bytes) {
    list_ = {bytes.data(), bytes.size()};
    return wait([&](Completion done) {
      device.write({offset, bytes.size()}, {&list_, 1}, false, done);
    });
  }
  std::string read(CloneDevice& device, std::uint64_t offset) {
    std::string bytes(k4K, '\0');
    list_ = {bytes.data(), bytes.size()};
    const auto got = wait([&](Completion done) { device.read({offset, k4K}, {&list_, 1}, done); });
    return got ? bytes : "(" + got.error().message() + ")";
  }
  template <class Start>
  static Result<> wait(Start start) {
    std::promise<Result<>> answer;
    start(Completion{[](void* context, const Result<>& outcome) {
                       static_cast<std::promise<Result<>>*>(context)->set_value(outcome);
                     },
                     &answer});
    return answer.get_future().get();
  }
  // One life of the clone, in which a block is written.
  void live(std::uint64_t offset, const std::string& bytes) {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    ASSERT_TRUE(write(**device, offset, bytes));
    ASSERT_TRUE((*device)->close());
  }
  std::map<std::string, std::string> everything() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      if (entry.is_regular_file()) all[entry.path()] = content(entry.path());
    }
    return all;
  }

  fs::path folder_;
  OpenRequest request_;
  iovec list_{};
};

TEST_F(FilesThatChange, a_creation_that_fails_late_leaves_everything_as_it_was) {
  const auto run = SmallTmpfs::mount("size=64k");
  if (!run) GTEST_SKIP() << "mounting a tmpfs is not permitted here";
  fs::create_directories(run->path() + "/live");
  run->fill(true);  // The live map is what fails, after all else has been made.
  request_.site.run_dir = run->path();
  request_.options.init_overwrite = true;
  for (const std::string& old : {std::string(), std::string(k4K, '\0'), text(5, 3 * k4K)}) {
    put(request_.options.meta, old);
    put(request_.options.dest, old);
    const auto before = everything();
    const auto device = CloneDevice::open(request_);
    ASSERT_FALSE(device);
    EXPECT_EQ(device.error().code, make_error_code(Errc::live_map_full));
    EXPECT_TRUE(everything() == before) << "something was left behind";
  }
  fs::remove(request_.options.meta);
  fs::remove(request_.options.dest);
  const auto before = everything();
  ASSERT_FALSE(CloneDevice::open(request_));
  EXPECT_TRUE(everything() == before);
  run->fill(false);
  request_.options.init_overwrite = false;
  live(0, text(6, k4K));
}

TEST_F(FilesThatChange, an_old_copy_of_the_metadata_is_refused) {
  live(0, text(2, k4K));
  fs::copy_file(request_.options.meta, folder_ / "backup.meta");
  fs::copy_file(request_.options.dest, folder_ / "backup.img");
  live(8 * k4K, text(3, k4K));
  fs::copy_file(request_.options.meta, folder_ / "newest.meta");
  const auto restore = fs::copy_options::overwrite_existing;
  fs::copy_file(folder_ / "backup.meta", request_.options.meta, restore);
  const auto opened = CloneDevice::open(request_);
  ASSERT_FALSE(opened) << "block 8 would read as the origin's";
  EXPECT_NE(opened.error().message().find("is older (sequence"), std::string::npos)
      << opened.error().message();

  fs::copy_file(folder_ / "newest.meta", request_.options.meta, restore);
  {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    EXPECT_EQ(read(**device, 8 * k4K), text(3, k4K));
  }
  // Both from one backup, and told so.
  fs::copy_file(folder_ / "backup.meta", request_.options.meta, restore);
  fs::copy_file(folder_ / "backup.img", request_.options.dest, restore);
  fs::remove(folder_ / "state/known/vm1");
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ(read(**device, 0), text(2, k4K));
  EXPECT_EQ(read(**device, 8 * k4K), text(1, kSize).substr(8 * k4K, k4K));
}

TEST_F(FilesThatChange, a_file_origin_that_is_written_in_use_is_not_read_any_more) {
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device);
  EXPECT_EQ(read(**device, 0), text(1, kSize).substr(0, k4K));
  const int fd = ::open(request_.options.origin.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(::pwrite(fd, "booted", 6, 5 * k4K + 100), 6);
  ::close(fd);
  EXPECT_NE(read(**device, 7 * k4K).find("origin"), std::string::npos) << "read a mixture";
  const std::string why = (*device)->status().origin.last_error;
  EXPECT_NE(why.find("origin changed"), std::string::npos) << why;
  EXPECT_TRUE(write(**device, 7 * k4K, text(4, k4K))) << "needs no origin";
  EXPECT_TRUE((*device)->close());
}

TEST_F(FilesThatChange, a_file_origin_that_was_only_touched_is_refused_and_that_is_said) {
  live(0, text(2, k4K));
  const timespec past[2] = {{1, 0}, {1, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, request_.options.origin.c_str(), past, 0), 0);
  const auto opened = CloneDevice::open(request_);
  ASSERT_FALSE(opened);
  EXPECT_NE(opened.error().message().find("only the time of its last change"), std::string::npos)
      << opened.error().message();
}

}  // namespace
}  // namespace clonedev
