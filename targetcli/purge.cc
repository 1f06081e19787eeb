#include "purge.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "human.h"
#include "metadata/superblock.h"
#include "metadata_file.h"

namespace clonectl {
namespace {

using clonedev::ExclusiveFile;
using clonedev::KnownClone;
using clonedev::Superblock;

constexpr const char* kDestination = "destination";
constexpr const char* kMetadata = "metadata";

bool is_there(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

bool is_link(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_symlink(path, error);
}

void keep(const std::string& role, const std::string& path, const std::string& why) {
  fmt::print("kept: {} {}: {}\n", role, path, printable(why));
}

// The superblock, or why the metadata are not those of this clone.
clonedev::Result<Superblock> own_superblock(MetadataFile& meta, const KnownClone& known) {
  const auto stranger = [](const std::string& why) {
    return clonedev::fail(clonedev::Errc::foreign, why);
  };
  if (meta.device().size() < clonedev::kSuperblockSlots * clonedev::kUnitBytes) {
    return stranger("too short to be that of a clone");
  }
  auto read = meta.run([&] { return clonedev::read_superblock(meta.device()); });
  if (!read) return clonedev::fail(read.error());
  if (!*read) return stranger("holds nothing of a clone");
  const Superblock& found = **read;
  if (clonedev::id_text(found.uuid) != known.uuid) return stranger("is of another clone");
  const auto host = clonedev::read_host_ids();
  if (!host) return clonedev::fail(host.error());
  if (!found.clean && found.machine_id != host->machine) {
    return stranger("is attached by another machine");
  }
  return found;
}

void remove(const ExclusiveFile& file, const std::string& role) {
  if (file.block_device()) {
    fmt::print("kept: {} {}, a device: blkdiscard or wipe it yourself\n", role, file.path());
  } else if (is_link(file.path())) {
    keep(role, file.path(), "a symbolic link: remove it and what it leads to yourself");
  } else if (!file.still_named()) {
    keep(role, file.path(), "another file has taken its place");
  } else {
    value_or_give_up(file.unlink());
    value_or_give_up(file.sync_parent());
    fmt::print("removed: {} {}\n", role, file.path());
  }
}

}  // namespace

void purge(const KnownClone& known) {
  // Both stay open, so nobody else can come to use them meanwhile.
  std::optional<ExclusiveFile> destination;
  if (is_there(known.dest)) {
    destination = value_or_give_up(
        ExclusiveFile::open(known.dest, kDestination, std::chrono::milliseconds(0)));
  }
  if (!is_there(known.meta)) {
    if (destination) {
      keep(kDestination, known.dest, "its metadata are gone, which would say whose it is");
    }
    return;
  }
  MetadataFile meta(open_metadata(known.meta, Access::change));
  const auto own = own_superblock(meta, known);
  std::string why = own ? "" : own.error().message();
  if (own && destination &&
      ExclusiveFile::differ(own->destination_identity, destination->identity())) {
    why = "the destination is not the one the clone was made with";
  }
  if (!why.empty()) {
    if (destination) keep(kDestination, known.dest, "whose it is is not certain");
    keep(kMetadata, known.meta, why);
    return;
  }
  // The metadata last: they say whose the other is.
  if (destination) remove(*destination, kDestination);
  remove(meta.device().file(), kMetadata);
}

}  // namespace clonectl
