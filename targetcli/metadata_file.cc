#include "metadata_file.h"

#include <fmt/format.h>

#include "metadata/layout.h"

namespace clonectl {

using clonedev::Errc;
using clonedev::ExclusiveFile;

void give_up(const clonedev::Error& error) {
  const bool damaged = error.code == Errc::damaged || error.code == Errc::foreign;
  throw CommandError(damaged ? ExitCode::damaged : ExitCode::failed, error.message());
}

ExclusiveFile open_metadata(const std::string& path, Access access) {
  auto file = access == Access::read
                  ? ExclusiveFile::open_to_read(path, "metadata")
                  : ExclusiveFile::open(path, "metadata", std::chrono::milliseconds(0));
  if (file) return std::move(*file);
  if (file.error().code != Errc::in_use) give_up(file.error());
  throw CommandError(
      ExitCode::failed,
      fmt::format("metadata {}: is in use, by tcmu-runner or another of these commands: ask "
                  "clonectl status, or come again when its LUN is deleted or tcmu-runner stopped",
                  path));
}

MetadataFile::MetadataFile(ExclusiveFile file)
    : reactor_(value_or_give_up(clonedev::Reactor::create())) {
  const std::uint64_t size = file.size() / clonedev::kUnitBytes * clonedev::kUnitBytes;
  device_ = std::make_unique<clonedev::FileDevice>(*reactor_, bounce_, std::move(file), size);
}

}  // namespace clonectl
