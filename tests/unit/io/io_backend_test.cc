#include "io/io_backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <string>
#include <vector>

#include "clonedev/clone_device.h"
#include "io/reactor.h"
#include "scratch_folder.h"
#include "support/no_io_uring.h"

namespace clonedev {
namespace {

constexpr std::size_t kPage = 4096;

class IoBackendTest : public testing::Test {
 protected:
  IoBackendTest() {
    ::unsetenv("TCMU_CLONE_IO");
    log().clear();
    set_log_sink([](int, const char* line) { log().push_back(line); });
  }
  ~IoBackendTest() override { set_log_sink(nullptr); }

  static std::vector<std::string>& log() {
    static std::vector<std::string> lines;
    return lines;
  }

  // "" when there is none.
  static std::string chosen() {
    const auto backend = make_io_backend();
    return backend ? (*backend)->name() : "";
  }
};

TEST_F(IoBackendTest, is_io_uring_where_the_kernel_lets_us) {
  EXPECT_EQ(chosen(), "io_uring");
  EXPECT_TRUE(log().empty());
}

TEST_F(IoBackendTest, is_threads_where_io_uring_is_denied_and_the_log_says_why) {
  for (const int code : {EPERM, ENOSYS, EACCES, ENOMEM}) {
    log().clear();
    run_without_io_uring(code, [] { EXPECT_EQ(chosen(), "threads"); });
    ASSERT_EQ(log().size(), 1U);
    EXPECT_NE(log()[0].find(std::strerror(code)), std::string::npos) << log()[0];
    EXPECT_NE(log()[0].find("pool of threads"), std::string::npos) << log()[0];
  }
}

TEST_F(IoBackendTest, is_what_the_environment_wants_and_nothing_else) {
  ::setenv("TCMU_CLONE_IO", "threads", 1);
  EXPECT_EQ(chosen(), "threads");
  ::setenv("TCMU_CLONE_IO", "io_uring", 1);
  EXPECT_EQ(chosen(), "io_uring");
  run_without_io_uring(EPERM, [] { EXPECT_EQ(chosen(), ""); });
  ::setenv("TCMU_CLONE_IO", "aio", 1);
  const auto refused = make_io_backend();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::bad_config);
  EXPECT_TRUE(log().empty());
}

std::size_t pool_threads() {
  std::size_t count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    count += name == "clone-io";
  }
  return count;
}

// Pages that a read into them gets stuck on until they are let go: what a device that does not
// answer is to a system call.
class StuckPages {
 public:
  explicit StuckPages(std::size_t count) : length_(count * kPage) {
    fault_ = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    memory_ = static_cast<std::byte*>(
        ::mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    uffdio_api api{UFFD_API, 0, 0};
    uffdio_register all{};
    all.range = range();
    all.mode = UFFDIO_REGISTER_MODE_MISSING;
    works_ = fault_ >= 0 && ::ioctl(fault_, UFFDIO_API, &api) == 0 &&
             ::ioctl(fault_, UFFDIO_REGISTER, &all) == 0;
  }
  StuckPages(const StuckPages&) = delete;
  StuckPages& operator=(const StuckPages&) = delete;
  ~StuckPages() {
    if (fault_ >= 0) ::close(fault_);
    ::munmap(memory_, length_);
  }

  bool works() const { return works_; }
  iovec page(std::size_t index) const { return {memory_ + index * kPage, kPage}; }
  void let_go() const {
    uffdio_zeropage zeroes{};
    zeroes.range = range();
    EXPECT_EQ(::ioctl(fault_, UFFDIO_ZEROPAGE, &zeroes), 0);
  }

 private:
  uffdio_range range() const { return {reinterpret_cast<std::uint64_t>(memory_), length_}; }

  std::size_t length_;
  int fault_ = -1;
  std::byte* memory_ = nullptr;
  bool works_ = false;
};

class ThreadsTest : public IoBackendTest {
 protected:
  ThreadsTest() {
    ::setenv("TCMU_CLONE_IO", "threads", 1);
    reactor_ = std::move(*Reactor::create());
    stalled_ = make_file("stalled");
    quick_ = make_file("quick");
  }
  ~ThreadsTest() override {
    reactor_.reset();
    for (int i = 0; i < 1000 && pool_threads() > 0; ++i) ::usleep(1000);  // /proc lags behind join.
    EXPECT_EQ(pool_threads(), 0U) << "they end with their reactor";
    ::close(stalled_);
    ::close(quick_);
  }
  int make_file(const char* name) const {
    const int fd = ::open(folder_.path(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    const std::string text(kPage, 'x');
    EXPECT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(kPage));
    return fd;
  }

  Task<> read_page(int fd, iovec page, std::size_t& ended) {
    const int got = co_await reactor_->readv(fd, &page, 1, 0);
    EXPECT_EQ(got, static_cast<int>(kPage));
    ++ended;
  }
  Task<> use_the_rest(bool& ended) {
    std::string bytes(kPage, 'y');
    const iovec list{bytes.data(), bytes.size()};
    const int flushed = co_await reactor_->fdatasync(stalled_);
    EXPECT_EQ(flushed, 0);
    const int reserved = co_await reactor_->fallocate(stalled_, 0, 0, 2 * kPage);
    EXPECT_EQ(reserved, 0);
    const int written = co_await reactor_->writev(quick_, &list, 1, 0);
    EXPECT_EQ(written, static_cast<int>(kPage));
    ended = true;
  }
  // The rest gets ten seconds; what is stuck is let go then in any case.
  Task<> stall_one(const StuckPages& pages, std::size_t count) {
    std::size_t reads_ended = 0;
    std::list<Task<>> reads;
    for (std::size_t i = 0; i < count; ++i) {
      const iovec page = pages.page(i);
      reads.push_back(read_page(stalled_, page, reads_ended));
    }
    co_await reactor_->sleep_for(std::chrono::milliseconds(20));
    bool rest_ended = false;
    Task<> rest = use_the_rest(rest_ended);
    for (int i = 0; i < 1000 && !rest_ended; ++i) {
      co_await reactor_->sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(rest_ended) << "a stalled descriptor held up the others, or a flush";
    EXPECT_EQ(reads_ended, 0U);
    // 16 of them are stuck; how many more were called while these began is up to the machine.
    EXPECT_LE(pool_threads(), 64U) << "more than a reactor may have";
    pages.let_go();
    for (Task<>& read : reads) co_await read;
    co_await rest;
    EXPECT_EQ(reads_ended, count);
  }

  const ScratchFolder folder_;
  std::unique_ptr<Reactor> reactor_;
  int stalled_ = -1;
  int quick_ = -1;
};

TEST_F(ThreadsTest, a_descriptor_that_stalls_holds_up_no_other_and_no_flush) {
  constexpr std::size_t kReads = 200;  // More than there are threads.
  const StuckPages pages(kReads);
  if (!pages.works()) GTEST_SKIP() << "userfaultfd is not to be had";
  reactor_->run(stall_one(pages, kReads));
}

}  // namespace
}  // namespace clonedev
