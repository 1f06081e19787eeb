#include "faults/files_bed.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <future>
#include <thread>

#include "faults/short_transfers.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
namespace fs = std::filesystem;

constexpr Extent kWholeDisk{0, 64 * k4K};
constexpr auto kLockHeld = milliseconds(400);
constexpr auto kLongestHydration = std::chrono::seconds(20);

constexpr Extent blocks(std::uint64_t first, std::uint64_t count = 1) {
  return {first * k4K, count * k4K};
}

template <class Start>
Result<> wait(Start start) {
  std::promise<Result<>> answer;
  start(Completion{[](void* context, const Result<>& outcome) {
                     static_cast<std::promise<Result<>>*>(context)->set_value(outcome);
                   },
                   &answer});
  return answer.get_future().get();
}

iovec entry(Bytes& bytes) { return {bytes.data(), bytes.size()}; }

Result<> write(CloneDevice& device, Extent extent, Bytes bytes) {
  const iovec list = entry(bytes);
  return wait([&](Completion done) { device.write(extent, {&list, 1}, false, done); });
}

Result<Bytes> read(CloneDevice& device, Extent extent) {
  Bytes bytes(extent.length);
  const iovec list = entry(bytes);
  const auto got = wait([&](Completion done) { device.read(extent, {&list, 1}, done); });
  if (!got) return fail(got.error());
  return bytes;
}

Result<> zero(CloneDevice& device, Extent extent) {
  return wait([&](Completion done) { device.zero(extent, Zeroing::deallocate, false, done); });
}

Result<> flush(CloneDevice& device) {
  return wait([&](Completion done) { device.flush(done); });
}

void put(const fs::path& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

// A process that holds the lock of a file for a while, as the kernel does for a killed daemon whose
// I/O has not ended. Returns when it is held.
pid_t hold_lock(const fs::path& path) {
  int held[2];
  EXPECT_EQ(::pipe(held), 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    const char locked = ::fcntl(fd, F_OFD_SETLK, &whole) == 0 ? 'y' : 'n';
    if (::write(held[1], &locked, 1) == 1) std::this_thread::sleep_for(kLockHeld);
    ::_exit(0);
  }
  char locked = 'n';
  EXPECT_EQ(::read(held[0], &locked, 1), 1);
  EXPECT_EQ(locked, 'y');
  ::close(held[0]);
  ::close(held[1]);
  return holder;
}

}  // namespace

FilesBed::FilesBed(const Cell& cell, SmallTmpfs* destination_dir)
    : cell_(cell), destination_dir_(destination_dir) {
  std::string name = "/dev/shm/fault-files-XXXXXX";  // Its fsync costs nothing.
  folder_ = ::mkdtemp(name.data());
  const Bytes origin = pattern(1'000'000, kWholeDisk.length);
  put(folder_ / "origin", origin);
  shadow_.emplace(origin);
  request_.name = "vm";
  request_.size_bytes = kWholeDisk.length;
  request_.options.origin = folder_ / "origin";
  request_.options.dest = folder_ / "vm.img";
  if (destination_dir) request_.options.dest = destination_dir->path() + "/vm.img";
  request_.options.meta = folder_ / "vm.meta";
  request_.options.hydration = false;
  request_.site = {folder_ / "state", folder_ / "run", false};
}

FilesBed::~FilesBed() {
  make_transfers_short({});
  fs::remove_all(folder_);
}

fs::path FilesBed::target_path() const {
  switch (cell_.target) {
    case Target::origin:
      return request_.options.origin;
    case Target::destination:
      return request_.options.dest;
    default:
      return request_.options.meta;
  }
}

void FilesBed::run(const Expectation& expected) {
  make_older_copy();
  plan();
  const Answer answer = in_child();
  ASSERT_TRUE(answer.ready) << answer.text;
  if (cell_.activity == Activity::open) return open_under_fault(expected);
  EXPECT_EQ(answer.error, expected.error ? static_cast<int>(*expected.error) : 0) << answer.text;
  if (cell_.fault == Fault::short_transfer) {
    EXPECT_GT(answer.made_short, 0u);
  }
  settle(answer);
  if (cell_.fault == Fault::change) {
    EXPECT_FALSE(open()) << "took another file for its own";
  }
  heal();
  auto device = open();
  ASSERT_TRUE(device) << device.error().message();
  verify(**device);
}

// ---- what is done ----

void FilesBed::plan() {
  for (const Extent extent : {blocks(8, 8), blocks(16, 8), blocks(32, 8)}) {
    const bool zero = extent.offset == blocks(16).offset;
    laid_out_.push_back(shadow_->begin(extent, zero ? ShadowDisk::kZero : shadow_->fresh_number()));
    shadow_->done(laid_out_.back(), false);
  }
  const auto change = [&](Extent extent) {
    change_ = shadow_->begin(extent, shadow_->fresh_number());
  };
  if (cell_.activity == Activity::write_partial) change({k4K + 512, 512});
  if (cell_.activity == Activity::write_aligned) change(blocks(2));
  if (cell_.activity == Activity::overwrite) change(blocks(9));
  if (cell_.activity == Activity::discard) {
    change_ = shadow_->begin(blocks(10, 2), ShadowDisk::kZero);
  }
}

bool FilesBed::lay_out(CloneDevice& device) {
  const auto put_change = [&](const ShadowDisk::Change& change) {
    return write(device, change.extent, shadow_->bytes(change.number, change.extent)).has_value();
  };
  return put_change(laid_out_[0]) && zero(device, laid_out_[1].extent) && flush(device) &&
         put_change(laid_out_[2]) && (cell_.activity != Activity::flush || flush(device));
}

Result<> FilesBed::act(CloneDevice& device) {
  switch (cell_.activity) {
    case Activity::idle:
      return hydrate(device);
    case Activity::read: {
      const Extent extent = cell_.target == Target::origin ? blocks(0) : blocks(8);
      const auto found = read(device, extent);
      if (!found) return fail(found.error());
      if (*found ==
          shadow_->bytes(cell_.target == Target::origin ? ShadowDisk::kOrigin : laid_out_[0].number,
                         extent)) {
        return {};
      }
      return fail(Errc::damaged, "read something else than was written");
    }
    case Activity::write_partial:
    case Activity::write_aligned:
    case Activity::overwrite:
      return write(device, change_->extent, shadow_->bytes(change_->number, change_->extent));
    case Activity::discard:
      return zero(device, change_->extent);
    case Activity::flush:
    case Activity::commit:
      return flush(device);
    case Activity::close:
      return device.close();
    case Activity::open:
      break;
  }
  return {};
}

Result<> FilesBed::hydrate(CloneDevice& device) {
  if (auto begun = device.message("enable_hydration"); !begun) return begun;
  const auto give_up = steady_clock::now() + kLongestHydration;
  while (device.status().state != CloneState::complete) {
    if (steady_clock::now() > give_up) return fail(Errc::busy, "hydration takes too long");
    std::this_thread::sleep_for(milliseconds(20));
  }
  return {};
}

FilesBed::Answer FilesBed::live() {
  Answer answer;
  const auto tell = [&](const Error& error) {
    answer.error = error.code.value();
    std::strncpy(answer.text, error.message().c_str(), sizeof answer.text - 1);
    return answer;
  };
  const bool opening = cell_.activity == Activity::open;
  if (cell_.fault == Fault::short_transfer && !opening) inject();
  auto device = open();
  if (!device) return tell(device.error());
  if (!lay_out(**device)) return tell({make_error_code(Errc::busy), "the disk was not laid out"});
  answer.ready = true;
  if (cell_.fault == Fault::short_transfer && !opening) inject();  // A new destination, too.
  if (cell_.fault != Fault::short_transfer && !opening) inject();
  const auto outcome = act(**device);
  answer.made_short = transfers_made_short();
  if (!outcome) return tell(outcome.error());
  device->release();  // Nobody closes it: the process is killed.
  return answer;
}

void FilesBed::live_and_die(int answer_pipe) {
  const Answer answer = live();
  (void)!::write(answer_pipe, &answer, sizeof answer);
  ::kill(::getpid(), SIGKILL);
}

FilesBed::Answer FilesBed::in_child() {
  int channel[2];
  EXPECT_EQ(::pipe(channel), 0);
  const pid_t child = ::fork();
  if (child == 0) live_and_die(channel[1]);
  ::close(channel[1]);
  Answer answer;
  if (::read(channel[0], &answer, sizeof answer) != sizeof answer) {
    std::strncpy(answer.text, "the child said nothing", sizeof answer.text - 1);
    answer.ready = false;
  }
  ::close(channel[0]);
  ::waitpid(child, nullptr, 0);
  return answer;
}

void FilesBed::settle(const Answer& answer) {
  if (!change_) return;
  if (answer.error == 0) {
    shadow_->done(*change_, false);
  } else {
    shadow_->perhaps(*change_);
  }
}

// ---- open ----

void FilesBed::open_under_fault(const Expectation& expected) {
  inject();
  const auto began = steady_clock::now();
  auto device = cell_.fault == Fault::stall ? open_while_locked() : open();
  if (cell_.fault == Fault::stall) {
    EXPECT_GE(steady_clock::now() - began, kLockHeld / 2);
  }
  if (cell_.fault == Fault::short_transfer) {
    EXPECT_GT(transfers_made_short(), 0u);
  }
  Result<> outcome;
  if (!device) outcome = fail(device.error());
  judge_opened(outcome, expected);
  if (!device) {
    heal();
    device = open();
  }
  ASSERT_TRUE(device) << device.error().message();
  verify(**device);
}

void FilesBed::judge_opened(const Result<>& outcome, const Expectation& expected) {
  if (expected.outcome != Outcome::refused) {
    EXPECT_TRUE(outcome) << outcome.error().message();
    return;
  }
  ASSERT_FALSE(outcome) << "was opened";
  const std::string said = outcome.error().message();
  EXPECT_EQ(outcome.error().code, make_error_code(*expected.error)) << said;
  EXPECT_EQ(said.find('\n'), std::string::npos) << said;
  EXPECT_NE(said.find(target_path()), std::string::npos) << said;
}

Result<std::unique_ptr<CloneDevice>> FilesBed::open() { return CloneDevice::open(request_); }

Result<std::unique_ptr<CloneDevice>> FilesBed::open_while_locked() {
  const pid_t holder = hold_lock(target_path());
  auto device = open();
  ::waitpid(holder, nullptr, 0);
  return device;
}

// ---- the fault ----

// Metadata as they were before this life of the clone.
void FilesBed::make_older_copy() {
  if (cell_.target != Target::metadata || cell_.fault != Fault::change) return;
  auto device = open();
  ASSERT_TRUE(device) << device.error().message();
  ASSERT_TRUE((*device)->close());
  fs::copy_file(request_.options.meta, folder_ / "older");
}

void FilesBed::inject() {
  const fs::path path = target_path();
  const fs::path aside = path.string() + ".aside";
  switch (cell_.fault) {
    case Fault::short_transfer:
      return make_transfers_short(path);
    case Fault::no_space:
      return destination_dir_->fill(true);
    case Fault::disappearance:
      return fs::rename(path, aside);
    case Fault::change:
      fs::rename(path, aside);
      if (cell_.target == Target::metadata) {
        fs::copy_file(folder_ / "older", path);
      } else if (cell_.target == Target::destination) {
        fs::copy_file(aside, path);
      } else {
        put(path, pattern(77, kWholeDisk.length));
      }
      return;
    default:
      return;
  }
}

void FilesBed::heal() {
  make_transfers_short({});
  if (destination_dir_) destination_dir_->fill(false);
  const fs::path aside = target_path().string() + ".aside";
  if (fs::exists(aside)) fs::rename(aside, target_path());
}

void FilesBed::verify(CloneDevice& device) {
  const auto found = read(device, kWholeDisk);
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(shadow_->killed(*found), "");
  EXPECT_EQ(device.status().mode, CloneMode::rw);
  EXPECT_TRUE(write(device, blocks(50), Bytes(k4K, std::byte{5})));
  EXPECT_TRUE(flush(device));
  EXPECT_TRUE(device.close());
}

}  // namespace clonedev
