// Two whole clones in one process, of one origin.

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "clonedev/clone_device.h"
#include "support/nbd_server.h"
#include "support/server_place.h"

namespace clonedev {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kDisk = 8 << 20;

std::unique_ptr<CloneDevice> open_clone(const std::string& name, const std::string& origin,
                                        const fs::path& folder) {
  Options options;
  options.origin = origin;
  options.dest = folder / (name + ".dest");
  options.meta = folder / (name + ".meta");
  options.hydration = false;
  auto device =
      CloneDevice::open({name, kDisk, options, {folder / "state", folder / "run", false}});
  EXPECT_TRUE(device) << device.error().message();
  return device ? std::move(*device) : nullptr;
}

void wait_a_little() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

unsigned connections(const NbdServer& server) {
  return server.logged(" Connect ") - server.logged(" Disconnect ");
}

bool becomes_complete(CloneDevice& device) {
  for (int i = 0; i < 6000 && device.status().state != CloneState::complete; ++i) wait_a_little();
  return device.status().state == CloneState::complete;
}

std::vector<std::byte> content(const fs::path& path) {
  std::vector<std::byte> bytes(fs::file_size(path));
  std::ifstream(path, std::ios::binary)
      .read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

TEST(TwoClones, hydrate_side_by_side_over_one_set_of_connections) {
  if (!NbdServer::available()) GTEST_SKIP() << "nbdkit is not installed";
  const fs::path folder = make_scratch_folder("clone-two");
  NbdServer server({"--filter=log", "pattern", std::to_string(kDisk), "logfile={folder}/log"});
  server.start();
  auto first = open_clone("first", server.uri(), folder);
  auto second = open_clone("second", server.uri(), folder);
  ASSERT_TRUE(first && second);
  for (int i = 0; i < 500 && connections(server) != 4; ++i) wait_a_little();
  EXPECT_EQ(connections(server), 4U);
  EXPECT_TRUE(first->message("enable_hydration"));
  EXPECT_TRUE(second->message("enable_hydration"));
  EXPECT_TRUE(becomes_complete(*first));
  EXPECT_TRUE(becomes_complete(*second));
  EXPECT_TRUE(first->close());
  EXPECT_TRUE(second->close());
  EXPECT_TRUE(is_nbd_pattern(0, content(folder / "first.dest")));
  EXPECT_TRUE(is_nbd_pattern(0, content(folder / "second.dest")));
  fs::remove_all(folder);
}

}  // namespace
}  // namespace clonedev
