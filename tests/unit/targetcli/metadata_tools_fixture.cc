#include "metadata_tools_fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include "metadata/metadata_check.h"

namespace clonedev {
namespace {

constexpr std::size_t kPiece = 1 << 20;

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

void MetadataToolsTest::SetUp() {
  ClonectlTest::SetUp();
  ::setenv("TCMU_CLONE_LIVE", folder_.c_str(), 1);
  set_log_sink([](int, const char*) {});
  MemoryDevice device(metadata_bytes(kSize));
  Superblock fresh = new_superblock(kSize);
  const auto made = sim_.run(format(device, std::move(fresh)));
  ASSERT_TRUE(made);
  auto found = sim_.run(read_superblock(device));
  std::string dir = folder_;
  auto store = sim_.run(MetadataStore::attach(device, **found, std::move(dir), kHost));
  ASSERT_TRUE(store);
  for (const std::size_t page : kPages) {
    ASSERT_TRUE(set(**store, page * kPerPage + 5, 7));
    ASSERT_TRUE(set(**store, page * kPerPage + 100, 9, BlockState::zero));
  }
  MemoryDevice destination(kMiB);
  ASSERT_TRUE(sim_.run((*store)->commit(destination)));
  ASSERT_TRUE(sim_.run((*store)->detach()));
  save(device);
}

void MetadataToolsTest::save(const MemoryDevice& device) const {
  const int fd = ::open(meta().c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(device.size())), 0);
  for (std::uint64_t at = 0; at < device.size(); at += kPiece) {
    const auto bytes = device.bytes({at, std::min<std::uint64_t>(kPiece, device.size() - at)});
    if (all_zero(bytes)) continue;
    ASSERT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
  }
  ::close(fd);
}

MemoryDevice MetadataToolsTest::load() const {
  const std::string content = slurp(meta());
  MemoryDevice device(content.size());
  const auto bytes = std::as_bytes(std::span(content));
  for (std::size_t at = 0; at < bytes.size(); at += kPiece) {
    const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
    if (!all_zero(piece)) device.poke(at, piece);
  }
  return device;
}

Superblock MetadataToolsTest::superblock() const {
  MemoryDevice device = load();
  return **sim_.run(read_superblock(device));
}

void MetadataToolsTest::change(const std::function<void(Superblock&)>& how) {
  MemoryDevice device = load();
  Superblock next = **sim_.run(read_superblock(device));
  ++next.sequence;
  how(next);
  ASSERT_TRUE(sim_.run(write_superblock(device, next)));
  save(device);
}

std::uint64_t MetadataToolsTest::unit_of_page(std::size_t page) const {
  MemoryDevice device = load();
  const Superblock root = **sim_.run(read_superblock(device));
  Unit node;
  device.peek(root.roots[page / kNodeRefs].where * kUnitBytes, node.bytes);
  std::array<PageRef, kNodeRefs> refs;
  unpack(node, refs);
  return refs[page % kNodeRefs].where;
}

// With what lies between them.
std::uint64_t MetadataToolsTest::units_in_use() const {
  MemoryDevice device = load();
  return kFirstPageUnit + sim_.run(check_metadata(device))->used_units - kSuperblockSlots;
}

void MetadataToolsTest::flip(std::uint64_t offset, unsigned mask) {
  const int fd = ::open(meta().c_str(), O_RDWR | O_CLOEXEC);
  std::uint8_t value = 0;
  ASSERT_EQ(::pread(fd, &value, 1, static_cast<off_t>(offset)), 1);
  value = static_cast<std::uint8_t>(value ^ mask);
  ASSERT_EQ(::pwrite(fd, &value, 1, static_cast<off_t>(offset)), 1);
  ::close(fd);
}

Picture MetadataToolsTest::picture() const {
  MemoryDevice device = load();
  ScratchDir live;
  auto found = sim_.run(read_superblock(device));
  std::string dir = live.path();
  auto store = sim_.run(MetadataStore::attach(device, **found, std::move(dir), kHost));
  EXPECT_TRUE(store) << store.error().message();
  return store ? picture_of((*store)->map()) : Picture{};
}

void expect_error_line(const Outcome& outcome, int exit_code, const std::string& words) {
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("clonectl: ")) << outcome.err;
  EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
  EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
}

}  // namespace clonedev
