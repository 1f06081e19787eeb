// How long a 4 KiB write takes: to a block that only the origin has, with a near and with a far
// origin, and to a block that is on the destination already. One run, the kinds in turn.
//
//   absent_write FOLDER NEAR_URI FAR_URI [ROUNDS]
//
// The URIs are NBD exports of the same image of 64 MiB or more; FOLDER is on a real file system.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <vector>

#include "clonedev/clone_device.h"

namespace {

using namespace clonedev;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kSize = std::uint64_t{64} << 20;
constexpr std::uint64_t kBlock = 4096;

std::unique_ptr<CloneDevice> open_clone(const std::string& folder, const std::string& name,
                                        const std::string& uri) {
  OpenRequest request;
  request.name = name;
  request.size_bytes = kSize;
  request.options.origin = uri;
  request.options.dest = folder + "/" + name + ".img";
  request.options.hydration = false;
  request.site = {folder + "/state", "/dev/shm/absent-write", false};
  auto device = CloneDevice::open(std::move(request));
  if (!device) {
    fmt::print(stderr, "absent_write: {}\n", device.error().message());
    std::exit(1);
  }
  return std::move(*device);
}

double write_us(CloneDevice& device, std::uint64_t block, std::byte* data) {
  std::promise<bool> done;
  const iovec list{data, kBlock};
  const auto begin = Clock::now();
  device.write({block * kBlock, kBlock}, {&list, 1}, false,
               {[](void* context, const Result<>& outcome) {
                  static_cast<std::promise<bool>*>(context)->set_value(outcome.has_value());
                },
                &done});
  if (!done.get_future().get()) {
    fmt::print(stderr, "absent_write: a write failed\n");
    std::exit(1);
  }
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

double median(std::vector<double>& values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    fmt::print(stderr, "usage: absent_write FOLDER NEAR_URI FAR_URI [ROUNDS]\n");
    return 2;
  }
  const std::string folder = argv[1];
  const std::uint64_t rounds = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 2000;
  std::filesystem::create_directories(folder + "/state");
  const auto near = open_clone(folder, "near", argv[2]);
  const auto far = open_clone(folder, "far", argv[3]);
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kBlock, kBlock));
  std::fill_n(data, kBlock, std::byte{0x5A});

  std::vector<double> absent_near;
  std::vector<double> absent_far;
  std::vector<double> present;
  const std::uint64_t blocks = kSize / kBlock;
  for (std::uint64_t i = 0; i < std::min(rounds, blocks); ++i) {
    const std::uint64_t block = i * 7919 % blocks;  // Coprime: each block once, all over the disk.
    absent_near.push_back(write_us(*near, block, data));
    absent_far.push_back(write_us(*far, block, data));
    present.push_back(write_us(*far, block, data));
  }
  const double near_us = median(absent_near);
  const double far_us = median(absent_far);
  const double present_us = median(present);
  fmt::print(
      "4 KiB write, {} of each, median us: absent, near origin {:.1f}; absent, far origin "
      "{:.1f}; already on the destination {:.1f}\n",
      absent_near.size(), near_us, far_us, present_us);
  fmt::print("absent far : absent near {:.3f}; absent far : hydrated {:.3f}\n", far_us / near_us,
             far_us / present_us);
  std::free(data);
  return 0;
}
