// The images that qemu-nbd opens for us: qcow2 with a backing chain, compressed, and VMDK.
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "origin/nbd_origin.h"
#include "support/run_on_reactor.h"
#include "support/server_place.h"

namespace clonedev {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kImageSize = 32 << 20;

class QemuNbd : public testing::Test {
 protected:
  void SetUp() override {
    if (::access("/usr/bin/qemu-nbd", X_OK) != 0) GTEST_SKIP() << "qemu-utils is not installed";
    run("head -c 3M /dev/urandom >raw && truncate -s 32M raw && "
        "head -c 1M /dev/urandom | dd of=raw bs=1M seek=20 conv=notrunc status=none");
  }
  ~QemuNbd() override {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    std::filesystem::remove_all(folder_);
  }
  void run(const std::string& command) {
    const std::string whole = "cd " + folder_.string() + " && { " + command + "; } >log 2>&1";
    ASSERT_EQ(std::system(whole.c_str()), 0) << command;
  }
  void serve(const std::string& format, const std::string& image) {
    const std::string command =
        "cd " + folder_.string() +
        " && exec setpriv --pdeathsig KILL qemu-nbd --read-only --persistent "
        "--shared=0 --socket=$PWD/socket --format=" +
        format + " " + image + " >nbd.log 2>&1";
    const char* const words[] = {"sh", "-c", command.c_str(), nullptr};
    ASSERT_EQ(
        ::posix_spawn(&child_, "/bin/sh", nullptr, nullptr, const_cast<char**>(words), environ), 0);
    for (int i = 0; i < 1000 && !std::filesystem::exists(folder_ / "socket"); ++i) {
      std::this_thread::sleep_for(20ms);
    }
  }
  // The image is served, equals the file `raw`, and its holes are told.
  void expect_clonable(const std::string& format, const std::string& image) {
    serve(format, image);
    const auto reactor = new_reactor();
    const std::string uri = "nbd+unix:///?socket=" + (folder_ / "socket").string();
    NbdOrigin origin(*reactor, uri, 20s, 4U);
    const auto opened = run_on(*reactor, [&] { return origin.open(); });
    EXPECT_TRUE(opened) << opened.error().message();
    if (opened) expect_content(*reactor, origin);
    run_on(*reactor, [&] { return origin.close(); });
  }
  void expect_content(Reactor& reactor, NbdOrigin& origin) {
    EXPECT_EQ(origin.size(), kImageSize);
    std::vector<std::byte> found(kImageSize);
    EXPECT_TRUE(run_on(reactor, [&] { return origin.read(0, found); }));
    std::ifstream raw(folder_ / "raw", std::ios::binary);
    std::vector<std::byte> expected(kImageSize);
    raw.read(reinterpret_cast<char*>(expected.data()), kImageSize);
    EXPECT_TRUE(found == expected);
    std::uint64_t data = 0;
    for (std::uint64_t at = 0; at < kImageSize;) {
      const Extent rest{at, kImageSize - at};
      const auto parts = run_on(reactor, [&] { return origin.extents(rest); });
      ASSERT_TRUE(parts && !parts->empty());
      for (const OriginExtent& part : *parts) data += part.zero ? 0 : part.extent.length;
      at = parts->back().extent.end();
    }
    EXPECT_GE(data, 4U << 20);
    EXPECT_LE(data, 8U << 20) << "nearly all of it is a hole";
  }

  const std::filesystem::path folder_ = make_scratch_folder("clone-qemu");
  pid_t child_ = -1;
};

TEST_F(QemuNbd, serves_qcow2_on_a_compressed_backing_file) {
  run("head -c 3M raw >low && truncate -s 32M low && qemu-img convert -c -O qcow2 low base.qcow2 "
      "&& "
      "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 && "
      "dd if=raw of=part bs=1M skip=20 count=1 status=none && "
      "qemu-io -f qcow2 -c 'write -q -s part 20M 1M' top.qcow2");
  expect_clonable("qcow2", "top.qcow2");
}

TEST_F(QemuNbd, serves_vmdk) {
  run("qemu-img convert -O vmdk -o subformat=streamOptimized raw disk.vmdk");
  expect_clonable("vmdk", "disk.vmdk");
}

}  // namespace
}  // namespace clonedev
