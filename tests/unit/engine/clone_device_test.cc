// The whole device on real files: what open() makes, finds again and refuses.

#include "clonedev/clone_device.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <random>
#include <thread>

#include "support/no_io_uring.h"

namespace clonedev {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSize = std::uint64_t{1} << 20;

std::string random_bytes(std::uint64_t seed, std::size_t length) {
  std::mt19937_64 random(seed);
  std::string bytes(length, '\0');
  for (std::size_t at = 0; at < length; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random();
    std::memcpy(&bytes[at], &word, std::min(sizeof word, length - at));
  }
  return bytes;
}

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes(fs::file_size(path), '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

void put(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

class CloneDeviceTest : public testing::Test {
 protected:
  CloneDeviceTest() {
    std::string name = SCRATCH_DIR "/clone-device-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    std::string run = "/dev/shm/clone-device-XXXXXX";
    run_ = ::mkdtemp(run.data());
    put(folder_ / "origin", random_bytes(1, kSize));
    request_ = request("vm1");
  }
  ~CloneDeviceTest() override {
    fs::remove_all(folder_);
    fs::remove_all(run_);
  }

  OpenRequest request(const std::string& name) {
    OpenRequest made;
    made.name = name;
    made.size_bytes = kSize;
    made.options.origin = folder_ / "origin";
    made.options.dest = folder_ / (name + ".img");
    made.options.meta = folder_ / (name + ".meta");
    made.options.hydration = false;
    made.site = {folder_ / "state", run_, false};
    return made;
  }

  static Result<> write(CloneDevice& device, std::uint64_t offset, std::string bytes) {
    return wait([&](Completion done) {
      const iovec list{bytes.data(), bytes.size()};
      list_ = list;
      device.write({offset, bytes.size()}, {&list_, 1}, false, done);
    });
  }
  static std::string read(CloneDevice& device, std::uint64_t offset, std::size_t length) {
    std::string bytes(length, '\0');
    const auto outcome = wait([&](Completion done) {
      list_ = {bytes.data(), bytes.size()};
      device.read({offset, length}, {&list_, 1}, done);
    });
    return outcome ? bytes : "(" + outcome.error().message() + ")";
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

  // Every file of the scratch folder with its content.
  std::map<std::string, std::string> everything() const {
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::recursive_directory_iterator(folder_)) {
      if (entry.is_regular_file()) all[entry.path()] = content(entry.path());
    }
    return all;
  }

  // One sentence that names the clone's trouble; nothing changes on disk.
  void refuses(const OpenRequest& wanted, const std::string& words) {
    const auto before = everything();
    const auto opened = CloneDevice::open(wanted);
    ASSERT_FALSE(opened) << "was opened; expected: " << words;
    const std::string said = opened.error().message();
    EXPECT_NE(said.find(words), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
    EXPECT_TRUE(everything() == before) << "files were written: " << said;
  }

  void make() {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    ASSERT_TRUE((*device)->close());
  }

  static inline iovec list_;
  fs::path folder_;
  fs::path run_;
  OpenRequest request_;
};

TEST_F(CloneDeviceTest, is_whole_at_once_and_found_again) {
  const std::string origin = content(folder_ / "origin");
  const std::string data = random_bytes(2, 5 * 512);
  {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    EXPECT_EQ(read(**device, 4096, 8192), origin.substr(4096, 8192));
    ASSERT_TRUE(write(**device, 512, data));
    EXPECT_TRUE((*device)->close());
    EXPECT_EQ((*device)->status().name, "vm1") << "status after close";
  }
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  std::string expected = origin.substr(0, 8192);
  expected.replace(512, data.size(), data);
  EXPECT_EQ(read(**device, 0, 8192), expected);
  EXPECT_EQ(content(folder_ / "origin"), origin);
}

TEST_F(CloneDeviceTest, works_where_io_uring_is_denied_and_its_status_says_so) {
  ::unsetenv("TCMU_CLONE_IO");
  request_.options.hydration = true;
  const std::string data = random_bytes(2, 4096);
  run_without_io_uring(EPERM, [&] {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    EXPECT_EQ((*device)->status().io, "threads");
    EXPECT_TRUE(write(**device, 8192, data));
    EXPECT_EQ(read(**device, 8192, 4096), data);
    EXPECT_TRUE((*device)->close());
  });
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ((*device)->status().io, "io_uring");
  EXPECT_EQ(read(**device, 8192, 4096), data);
}

TEST_F(CloneDeviceTest, completes_closes_the_origin_and_needs_it_no_more) {
  const std::string origin = content(folder_ / "origin");
  request_.options.hydration = true;
  {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    for (int i = 0; i < 200 && (*device)->status().state != CloneState::complete; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    const Status status = (*device)->status();
    EXPECT_EQ(status.state, CloneState::complete);
    EXPECT_EQ(status.origin.state, "closed");
    EXPECT_EQ(status.blocks.destination, kSize / 4096);
  }
  EXPECT_TRUE(content(folder_ / "vm1.img") == origin);
  fs::remove(folder_ / "origin");
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ(read(**device, 0, 4096), origin.substr(0, 4096));
}

TEST_F(CloneDeviceTest, opens_while_the_origin_is_away_and_reads_are_busy) {
  make();
  fs::rename(folder_ / "origin", folder_ / "away");
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_NE(read(**device, 0, 4096).find("origin"), std::string::npos);
  EXPECT_TRUE(write(**device, 0, random_bytes(3, 4096)));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE((*device)->close());
  EXPECT_LE(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
}

TEST_F(CloneDeviceTest, takes_live_keys_and_messages_and_names_a_static_key) {
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device);
  Options options = request_.options;
  options.hydration_threshold = 5;
  EXPECT_TRUE((*device)->reconfigure(options));
  EXPECT_EQ((*device)->status().hydration.threshold, 5u);
  options.region_size = 8192;
  const auto refused = (*device)->reconfigure(options);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("region_size"), std::string::npos);
  EXPECT_TRUE((*device)->message("hydration_batch_size 3"));
  EXPECT_EQ((*device)->status().hydration.batch, 3u);
  EXPECT_FALSE((*device)->message("hydration_batch_size"));
  EXPECT_FALSE((*device)->message("hydration_threshold 0"));
  EXPECT_FALSE((*device)->message("resize 5"));
  EXPECT_TRUE((*device)->message("enable_hydration"));
  EXPECT_TRUE((*device)->status().hydration.enabled);
}

TEST_F(CloneDeviceTest, refuses_a_missing_or_empty_origin_and_writes_nothing) {
  request_.options.origin = folder_ / "nowhere";
  refuses(request_, "nowhere");
  put(folder_ / "empty", "");
  request_.options.origin = folder_ / "empty";
  refuses(request_, "empty");
}

TEST_F(CloneDeviceTest, refuses_missing_folders) {
  request_.options.dest = folder_ / "no" / "vm1.img";
  refuses(request_, "destination");
  request_ = request("vm1");
  request_.options.meta = folder_ / "no" / "vm1.meta";
  refuses(request_, "metadata");
}

TEST_F(CloneDeviceTest, never_starts_a_known_clone_afresh) {
  make();
  for (const char* lost : {"vm1.meta", "vm1.img"}) {
    for (const bool overwrite : {false, true}) {
      fs::rename(folder_ / lost, folder_ / "unmounted");
      request_.options.init_overwrite = overwrite;
      refuses(request_, "is its file system mounted?");
      fs::rename(folder_ / "unmounted", folder_ / lost);
    }
  }
  request_.options.dest = folder_ / "other.img";
  refuses(request_, "is known with destination");
}

TEST_F(CloneDeviceTest, init_overwrite_never_touches_a_clone_that_is_there) {
  request_.options.init_overwrite = true;
  {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    ASSERT_TRUE(write(**device, 0, random_bytes(4, 4096)));
  }
  {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    EXPECT_EQ(read(**device, 0, 4096), random_bytes(4, 4096));
  }
  fs::remove_all(folder_ / "state");  // Another machine's memory of it does not matter.
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ(read(**device, 0, 4096), random_bytes(4, 4096));
}

TEST_F(CloneDeviceTest, refuses_a_destination_that_holds_data_unless_told_to_overwrite) {
  put(folder_ / "vm1.img", random_bytes(5, kSize));
  refuses(request_, "holds data");
  request_.options.init_overwrite = true;
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ(read(**device, 0, 4096), content(folder_ / "origin").substr(0, 4096));
}

TEST_F(CloneDeviceTest, refuses_metadata_that_are_foreign_damaged_or_of_another_clone) {
  make();
  OpenRequest other = request("vm2");
  other.options.meta = request_.options.meta;
  refuses(other, "belongs to the clone vm1");
  put(folder_ / "vm3.meta", random_bytes(6, 1 << 20));
  refuses(request("vm3"), "vm3.meta");
  fs::resize_file(folder_ / "vm1.meta", 1000);
  refuses(request_, "too short");
}

TEST_F(CloneDeviceTest, refuses_every_damaged_unit_of_the_superblocks) {
  make();
  std::string bytes = content(folder_ / "vm1.meta");
  for (const std::size_t at : {std::size_t{100}, std::size_t{4096 + 100}}) {
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
  }
  put(folder_ / "vm1.meta", bytes);
  refuses(request_, "vm1.meta");
}

TEST_F(CloneDeviceTest, refuses_another_size_region_size_or_destination) {
  make();
  for (const std::uint64_t another : {kSize / 2, kSize * 2}) {
    request_.size_bytes = another;
    refuses(request_, "has 1048576 bytes, the LUN " + std::to_string(another));
  }
  request_ = request("vm1");
  request_.options.region_size = 65536;
  refuses(request_, "region_size");
  request_ = request("vm1");
  fs::copy_file(folder_ / "vm1.img", folder_ / "copy");
  fs::rename(folder_ / "copy", folder_ / "vm1.img");
  refuses(request_, "is not the one the clone was made with");
}

TEST_F(CloneDeviceTest, grows_its_files_and_keeps_its_size_whatever_dev_size_says) {
  request_.size_bytes = kSize - 1536;
  const std::string origin = content(folder_ / "origin");
  const std::string data = random_bytes(9, 4096);
  const std::uint64_t larger = 80 * kSize;  // Two pages of states.
  {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device) << device.error().message();
    const auto shrunk = (*device)->grow(kSize / 2);
    ASSERT_FALSE(shrunk);
    EXPECT_NE(shrunk.error().message().find("cannot shrink"), std::string::npos);
    const auto grown = (*device)->grow(larger);
    ASSERT_TRUE(grown) << grown.error().message();
    EXPECT_EQ((*device)->status().size_bytes, larger);
    EXPECT_EQ(read(**device, kSize - 4096, 8192),
              origin.substr(kSize - 4096, 2560) + std::string(8192 - 2560, '\0'));
    EXPECT_TRUE(write(**device, larger - 4096, data));
  }
  EXPECT_EQ(fs::file_size(folder_ / "vm1.img"), larger);
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ((*device)->status().size_bytes, larger) << "dev_size is still the old one";
  EXPECT_EQ(read(**device, larger - 4096, 4096), data);
  ASSERT_TRUE((*device)->grow(larger + 4096));
  device->reset();
  for (const std::uint64_t never : {kSize - 2048, larger + 8192}) {
    request_.size_bytes = never;
    refuses(request_, "create it with its own size");
  }
  request_.size_bytes = larger;
  EXPECT_TRUE(CloneDevice::open(request_)) << "a size that it had once";
}

TEST_F(CloneDeviceTest, a_complete_clone_grows_without_its_origin_and_stays_complete) {
  const std::string origin = content(folder_ / "origin");
  request_.options.hydration = true;
  // What lies behind the end of the disk is not shown when it grows.
  put(folder_ / "vm1.img", random_bytes(5, 2 * kSize));
  request_.options.init_overwrite = true;
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  for (int i = 0; i < 200 && (*device)->status().state != CloneState::complete; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  fs::remove(folder_ / "origin");
  ASSERT_TRUE((*device)->grow(3 * kSize));
  EXPECT_EQ((*device)->status().state, CloneState::complete);
  EXPECT_TRUE((*device)->close());
  EXPECT_TRUE(content(folder_ / "vm1.img") == origin + std::string(2 * kSize, '\0'));
  device->reset();
  request_.size_bytes = 3 * kSize;
  device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ((*device)->status().state, CloneState::complete);
  EXPECT_EQ(read(**device, kSize, 4096), std::string(4096, '\0'));
}

TEST_F(CloneDeviceTest, growth_that_the_files_cannot_follow_leaves_all_as_it_was) {
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device) << device.error().message();
  const auto before = fs::file_size(folder_ / "vm1.meta");
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &files), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit low{std::uint64_t{100} << 20, files.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &low), 0);
  const auto grown = (*device)->grow(std::uint64_t{1} << 30);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &files), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(grown);
  EXPECT_EQ((*device)->status().size_bytes, kSize);
  EXPECT_EQ(fs::file_size(folder_ / "vm1.img"), kSize);
  EXPECT_EQ(fs::file_size(folder_ / "vm1.meta"), before);
  EXPECT_TRUE(write(**device, kSize - 4096, random_bytes(3, 4096)));
  EXPECT_TRUE((*device)->grow(std::uint64_t{1} << 30));
}

TEST_F(CloneDeviceTest, refuses_an_origin_that_has_changed) {
  make();
  put(folder_ / "origin", random_bytes(7, kSize));
  refuses(request_, "origin changed");
}

TEST_F(CloneDeviceTest, refuses_one_file_in_two_roles) {
  request_.options.dest = request_.options.origin;
  refuses(request_, "origin and destination");
  request_ = request("vm1");
  fs::create_hard_link(folder_ / "origin", folder_ / "link");
  request_.options.meta = folder_ / "link";
  refuses(request_, "origin and metadata");
}

TEST_F(CloneDeviceTest, refuses_a_second_device_on_the_same_files_and_the_first_goes_on) {
  auto device = CloneDevice::open(request_);
  ASSERT_TRUE(device);
  refuses(request_, "in use by another LUN");
  OpenRequest other = request("vm2");
  other.options.dest = request_.options.dest;
  refuses(other, "in use by another LUN");
  EXPECT_TRUE(write(**device, 0, random_bytes(8, 4096)));
  EXPECT_EQ(read(**device, 0, 4096), random_bytes(8, 4096));
}

TEST_F(CloneDeviceTest, refuses_sizes_and_names_that_cannot_be) {
  request_.size_bytes = 0;
  refuses(request_, "size 0");
  request_.size_bytes = 1000;
  refuses(request_, "multiple of 512");
  request_ = request(std::string(200, 'x'));
  request_.options.dest = folder_ / "x.img";
  request_.options.meta = folder_ / "x.meta";
  refuses(request_, "name");
}

TEST_F(CloneDeviceTest, a_longer_origin_is_cut_and_a_shorter_one_padded_with_zeroes) {
  request_.size_bytes = kSize / 2;
  {
    auto device = CloneDevice::open(request_);
    ASSERT_TRUE(device);
    EXPECT_EQ(read(**device, kSize / 2 - 4096, 4096),
              content(folder_ / "origin").substr(kSize / 2 - 4096, 4096));
  }
  OpenRequest larger = request("vm2");
  larger.size_bytes = kSize + 4096 + 512;
  larger.options.hydration = true;
  auto device = CloneDevice::open(larger);
  ASSERT_TRUE(device);
  EXPECT_EQ(read(**device, kSize - 512, 5120),
            content(folder_ / "origin").substr(kSize - 512) + std::string(4608, '\0'));
  for (int i = 0; i < 200 && (*device)->status().state != CloneState::complete; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ASSERT_TRUE((*device)->close());
  EXPECT_TRUE(content(folder_ / "vm2.img") ==
              content(folder_ / "origin") + std::string(4608, '\0'));
}

}  // namespace
}  // namespace clonedev
