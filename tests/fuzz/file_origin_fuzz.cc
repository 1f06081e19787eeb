// A file as the origin that somebody changes while it is in use.
//
// Input: two bytes of size, in units of 256; then steps: what is done, two bytes of offset, two of
// length, both in units of 64 bytes.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "fuzz_input.h"
#include "origin/file_origin.h"
#include "property.h"
#include "scratch.h"
#include "support/run_on_reactor.h"

namespace clonedev::fuzz {
namespace {

constexpr std::size_t kMostSteps = 64;
constexpr std::size_t kGuard = 4096;
constexpr std::byte kUnwritten{0xee};
constexpr std::byte kContent{0x11};

Reactor& reactor() {
  static Reactor* const one = new_reactor().release();
  return *one;
}

class Session {
 public:
  explicit Session(std::uint64_t size) : path_(folder_.path() + "/origin") {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    promise(fd_ >= 0, "a file can be made");
    write({0, size});
  }
  ~Session() { ::close(fd_); }

  void run(FuzzInput& input) {
    FileOrigin origin(reactor(), path_);
    const auto opened = run_on(reactor(), [&] { return origin.open(); });
    if (opened) {
      for (std::size_t i = 0; i < kMostSteps && !input.empty(); ++i) step(origin, input);
    } else {
      check_error(opened.error());
    }
    run_on(reactor(), [&] { return origin.close(); });
  }

 private:
  static void check_error(const Error& error) {
    promise(error.code == Errc::unavailable || error.code == Errc::origin_read ||
                error.code == Errc::refused,
            "a file that changes is unavailable, refused, or an error of the origin",
            error.message());
  }

  void step(FileOrigin& origin, FuzzInput& input) {
    const std::uint8_t what = input.byte();
    const Extent extent{input.number(2) * 64, input.number(2) * 64};
    switch (what % 6) {
      case 0:
        promise(::ftruncate(fd_, static_cast<off_t>(extent.offset)) == 0, "a file can be cut");
        break;
      case 1:
        write(extent);
        break;
      case 2:
        if (!extent.empty()) {
          ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      static_cast<off_t>(extent.offset), static_cast<off_t>(extent.length));
        }
        break;
      case 3:
        identify(origin);
        break;
      case 4:
        ask(origin, inside(origin, extent));
        break;
      default:
        read(origin, inside(origin, extent));
        break;
    }
  }

  static Extent inside(const FileOrigin& origin, Extent extent) {
    extent.offset %= origin.size();
    return {extent.offset, std::min(extent.length, origin.size() - extent.offset)};
  }

  void write(Extent extent) const {
    const std::vector<std::byte> bytes(extent.length, kContent);
    promise(::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(extent.offset)) ==
                static_cast<ssize_t>(bytes.size()),
            "a file can be written");
  }

  static void identify(FileOrigin& origin) {
    const auto identity = run_on(reactor(), [&] { return origin.identity(); });
    if (!identity) check_error(identity.error());
    promise(!identity || identity->size() <= 255, "an identity fits the superblock");
  }

  static void ask(FileOrigin& origin, Extent range) {
    if (range.empty()) return;
    const auto known = run_on(reactor(), [&] { return origin.extents(range); });
    if (!known) return check_error(known.error());
    std::uint64_t next = range.offset;
    for (const OriginExtent& part : *known) {
      promise(
          part.extent.offset == next && !part.extent.empty() && part.extent.end() <= range.end(),
          "extents follow one another inside what was asked for");
      next = part.extent.end();
    }
    promise(!known->empty(), "something is known of every range");
  }

  static void read(FileOrigin& origin, Extent range) {
    std::vector<std::byte> memory(range.length + 2 * kGuard, kUnwritten);
    const auto buffer = std::span(memory).subspan(kGuard, range.length);
    const auto done = run_on(reactor(), [&] { return origin.read(range.offset, buffer); });
    if (!done) check_error(done.error());
    for (std::size_t i = 0; i < memory.size(); ++i) {
      const bool guard = i < kGuard || i >= kGuard + range.length;
      promise(!guard || memory[i] == kUnwritten, "nothing is written outside of the buffer");
      promise(guard || !done || memory[i] == kContent || memory[i] == std::byte{0},
              "good data has been in the file");
    }
  }

  ScratchFolder folder_;
  const std::string path_;
  int fd_ = -1;
};

}  // namespace
}  // namespace clonedev::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace clonedev::fuzz;
  FuzzInput input(data, size);
  Session(input.number(2) * 256).run(input);
  return 0;
}
