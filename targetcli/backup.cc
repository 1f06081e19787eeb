#include "backup.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "metadata/unit_io.h"

namespace clonectl {
namespace {

using clonedev::BlockDevice;
using clonedev::kUnitBytes;
using clonedev::Result;
using clonedev::Task;
using clonedev::Unit;
using clonedev::UnitTransfer;

constexpr std::size_t kUnitsAtATime = 256;

bool holds_something(const Unit& unit) {
  return std::any_of(unit.bytes.begin(), unit.bytes.end(),
                     [](std::byte b) { return b != std::byte{0}; });
}

Task<Result<>> copy(BlockDevice& from, BlockDevice& to) {
  const std::uint64_t units = from.size() / kUnitBytes;
  std::vector<Unit> buffer(kUnitsAtATime);
  for (std::uint64_t first = 0; first < units; first += kUnitsAtATime) {
    std::vector<UnitTransfer> reads;
    std::vector<UnitTransfer> writes;
    for (std::size_t i = 0; i < std::min(kUnitsAtATime, units - first); ++i) {
      reads.push_back({first + i, &buffer[i]});
    }
    // What cannot be read is damage that the backup cannot keep; it stays a hole.
    for (std::size_t i = 0; i < reads.size(); ++i) {
      const auto one = std::span<const UnitTransfer>(reads).subspan(i, 1);
      auto read = co_await read_units(from, one);
      if (read && holds_something(buffer[i])) writes.push_back(reads[i]);
    }
    if (writes.empty()) continue;
    if (auto written = co_await write_units(to, writes); !written) co_return written;
  }
  co_return co_await to.flush();
}

}  // namespace

std::string make_backup(MetadataFile& meta, std::string path) {
  using clonedev::ExclusiveFile;
  if (path.empty() && meta.device().file().block_device()) {
    throw CommandError(ExitCode::usage,
                       fmt::format("{}: is a device: say with --backup FILE where its present "
                                   "content shall be kept",
                                   meta.path()));
  }
  if (path.empty()) path = meta.path() + ".before-repair";
  const std::uint64_t size = meta.device().size();
  ExclusiveFile file = value_or_give_up(ExclusiveFile::create(path, "backup", size));
  value_or_give_up(file.sync_parent());
  clonedev::BufferPool bounce(std::size_t{16} << 20);
  clonedev::FileDevice to(meta.reactor(), bounce, std::move(file), size);
  value_or_give_up(meta.run([&] { return copy(meta.device(), to); }));
  return path;
}

}  // namespace clonectl
