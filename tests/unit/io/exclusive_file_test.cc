#include "io/exclusive_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "scratch_folder.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr auto kNone = milliseconds(0);
constexpr auto kLong = std::chrono::seconds(20);

class ExclusiveFileTest : public ::testing::Test {
 protected:
  // A file of that size without blocks.
  std::string make_file(const std::string& name, off_t size = 1 << 20) const {
    const std::string path = folder_.path(name);
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_EQ(::ftruncate(fd, size), 0);
    ::close(fd);
    return path;
  }
  static Result<ExclusiveFile> open(const std::string& path, milliseconds patience = kNone) {
    return ExclusiveFile::open(path, "destination", patience);
  }
  static void expect_refused(const std::string& path, Errc code, const std::string& why) {
    const auto file = open(path);
    ASSERT_FALSE(file.has_value());
    EXPECT_EQ(file.error().code, code);
    const std::string text = file.error().message();
    EXPECT_EQ(text.find("destination " + path + ": "), 0u) << text;
    EXPECT_NE(text.find(why), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }

  ScratchFolder folder_;
};

// Another process that holds the lock of a file as a clone would, for some time.
class LockingProcess {
 public:
  LockingProcess(const std::string& path, milliseconds time) {
    int ready[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    child_ = ::fork();
    if (child_ == 0) hold(path.c_str(), ready[1], time);
    ::close(ready[1]);
    char byte;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "the other process got no lock";
    ::close(ready[0]);
  }
  ~LockingProcess() { ::waitpid(child_, nullptr, 0); }

 private:
  [[noreturn]] static void hold(const char* path, int ready, milliseconds time) {
    const int fd = ::open(path, O_RDWR | O_CLOEXEC);
    struct flock whole {};
    whole.l_type = F_WRLCK;
    if (::fcntl(fd, F_OFD_SETLK, &whole) != 0) ::_exit(1);
    if (::write(ready, "x", 1) != 1) ::_exit(1);
    ::usleep(static_cast<useconds_t>(time.count() * 1000));
    ::_exit(0);
  }
  pid_t child_;
};

TEST_F(ExclusiveFileTest, opens_a_file_and_knows_its_size) {
  const std::string path = make_file("disk", 12345);
  const auto file = open(path);
  ASSERT_TRUE(file.has_value());
  EXPECT_GE(file->fd(), 0);
  EXPECT_EQ(file->size(), 12345u);
  EXPECT_EQ(file->path(), path);
  EXPECT_FALSE(file->block_device());
}

TEST_F(ExclusiveFileTest, refuses_a_second_opener_in_this_process_at_once_until_the_first_is_gone) {
  const std::string path = make_file("disk");
  const std::string other_name = folder_.path("link");
  EXPECT_EQ(::link(path.c_str(), other_name.c_str()), 0);
  {
    auto first = open(path);
    ASSERT_TRUE(first.has_value());
    const auto begin = Clock::now();
    for (const std::string& name : {path, other_name}) {
      const auto second = open(name, kLong);
      ASSERT_FALSE(second.has_value());
      EXPECT_EQ(second.error().code, Errc::in_use);
    }
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
    const ExclusiveFile moved = std::move(*first);
    expect_refused(path, Errc::in_use, "another LUN of this daemon");
  }
  EXPECT_TRUE(open(path).has_value());
}

TEST_F(ExclusiveFileTest, keeps_its_lock_when_a_second_opener_was_refused) {
  const std::string path = make_file("disk");
  const auto first = open(path);
  expect_refused(path, Errc::in_use, "in use");
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  struct flock whole {};
  whole.l_type = F_WRLCK;
  EXPECT_NE(::fcntl(fd, F_OFD_SETLK, &whole), 0);
  ::close(fd);
}

TEST_F(ExclusiveFileTest, waits_for_the_lock_of_another_process) {
  const std::string path = make_file("disk");
  const auto begin = Clock::now();
  const LockingProcess other(path, milliseconds(300));
  const auto file = open(path, kLong);
  ASSERT_TRUE(file.has_value());
  EXPECT_GE(Clock::now() - begin, milliseconds(200));
}

TEST_F(ExclusiveFileTest, gives_up_when_its_patience_ends_and_can_be_opened_later) {
  const std::string path = make_file("disk");
  {
    const LockingProcess other(path, milliseconds(400));
    const auto begin = Clock::now();
    const auto file = open(path, milliseconds(100));
    ASSERT_FALSE(file.has_value());
    EXPECT_GE(Clock::now() - begin, milliseconds(100));
    EXPECT_EQ(file.error().code, Errc::in_use);
    EXPECT_NE(file.error().message().find("locked by another process"), std::string::npos);
  }
  EXPECT_TRUE(open(path).has_value()) << "the failed attempt is still registered";
}

TEST_F(ExclusiveFileTest, refuses_what_is_no_file_or_not_there_with_one_sentence) {
  expect_refused(folder_.path("missing"), Errc::unavailable, "No such file");
  expect_refused(folder_.path("."), Errc::refused, "neither a regular file nor a block device");
  const std::string fifo = folder_.path("fifo");
  EXPECT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  expect_refused(fifo, Errc::refused, "neither a regular file nor a block device");
  expect_refused("/dev/null", Errc::refused, "neither a regular file nor a block device");
  expect_refused(make_file("file") + "/below", Errc::unavailable, "Not a directory");
}

TEST_F(ExclusiveFileTest, creates_a_file_of_its_size_without_blocks) {
  const std::string path = folder_.path("new");
  const auto file = ExclusiveFile::create(path, "metadata", 10 << 20);
  ASSERT_TRUE(file.has_value());
  EXPECT_EQ(file->size(), std::uint64_t{10} << 20);
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_blocks, 0);
  EXPECT_EQ(info.st_mode & 0777u, 0600u);
  EXPECT_TRUE(file->sync_parent().has_value());
  expect_refused(path, Errc::in_use, "in use");
  EXPECT_TRUE(file->unlink().has_value());
  EXPECT_NE(::stat(path.c_str(), &info), 0);
  EXPECT_FALSE(file->unlink().has_value());
}

TEST_F(ExclusiveFileTest, creates_nothing_over_what_exists_or_without_its_folder) {
  const std::string path = make_file("disk", 777);
  for (const std::string& name : {path, folder_.path("no/such/folder")}) {
    const auto file = ExclusiveFile::create(name, "metadata", 4096);
    ASSERT_FALSE(file.has_value());
    EXPECT_EQ(file.error().code, Errc::unavailable);
    EXPECT_EQ(file.error().message().find("metadata " + name + ": "), 0u);
  }
  EXPECT_EQ(open(path)->size(), 777u);
}

TEST_F(ExclusiveFileTest, leaves_no_file_behind_when_it_cannot_have_its_size) {
  const std::string path = folder_.path("new");
  const auto file = ExclusiveFile::create(path, "metadata", std::uint64_t{1} << 62);
  ASSERT_FALSE(file.has_value());
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST_F(ExclusiveFileTest, knows_whether_its_path_still_names_it) {
  const std::string path = make_file("disk");
  const auto file = open(path);
  EXPECT_TRUE(file->still_named());
  EXPECT_EQ(::rename(path.c_str(), folder_.path("moved").c_str()), 0);
  EXPECT_FALSE(file->still_named());
  make_file("disk");
  EXPECT_FALSE(file->still_named()) << "another file under the old name";
  EXPECT_EQ(::rename(folder_.path("moved").c_str(), path.c_str()), 0);
  EXPECT_TRUE(file->still_named());
}

TEST_F(ExclusiveFileTest, tells_a_sparse_file_from_one_that_holds_data) {
  const auto empty = open(make_file("empty", 0));
  EXPECT_EQ(empty->holds_data(), false);
  const auto sparse = open(make_file("sparse", off_t{1} << 40));
  EXPECT_EQ(sparse->holds_data(), false);
  EXPECT_EQ(::pwrite(sparse->fd(), "x", 1, (off_t{1} << 39) + 5), 1);
  EXPECT_EQ(sparse->holds_data(), true);
  auto reserved = open(make_file("reserved", 0));
  EXPECT_TRUE(reserved->reserve(1 << 20).has_value());
  EXPECT_EQ(reserved->size(), 1u << 20);
  EXPECT_EQ(reserved->holds_data(), false);
}

TEST_F(ExclusiveFileTest, reserves_blocks_and_grows) {
  auto file = open(make_file("disk", 4096));
  EXPECT_TRUE(file->resize(1 << 20).has_value());
  EXPECT_EQ(file->size(), 1u << 20);
  EXPECT_TRUE(file->reserve(1 << 20).has_value());
  struct stat info {};
  EXPECT_EQ(::fstat(file->fd(), &info), 0);
  EXPECT_GE(info.st_blocks * 512, 1 << 20);
}

TEST_F(ExclusiveFileTest, has_one_identity_and_place_a_file_whatever_its_name) {
  const std::string path = make_file("one");
  std::string identity, place;
  {
    const auto one = open(path);
    const auto two = open(make_file("two"));
    identity = one->identity();
    place = one->place();
    EXPECT_NE(place, two->place());
    if (identity != "none") {
      EXPECT_NE(identity, two->identity());
    }
  }
  EXPECT_EQ(::rename(path.c_str(), folder_.path("renamed").c_str()), 0);
  const auto again = open(folder_.path("renamed"));
  EXPECT_EQ(again->identity(), identity);
  EXPECT_EQ(again->place(), place);
}

}  // namespace
}  // namespace clonedev
