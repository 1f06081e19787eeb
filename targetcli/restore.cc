#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "commands.h"
#include "core/config_value.h"
#include "dm_clone/region_map.h"
#include "io/file_place.h"
#include "metadata/dump.h"
#include "metadata/metadata_check.h"
#include "metadata_file.h"
#include "present.h"

namespace clonectl {
namespace {

using clonedev::BlockState;
using clonedev::DumpReader;
using clonedev::ExclusiveFile;
using clonedev::Result;
using clonedev::StateRun;
using clonedev::Superblock;

struct RestoreArguments {
  std::string input;
  std::string meta;
  bool overwrite = false;
  std::string dm_clone;  // The kernel's metadata, instead of a dump; then the next three, too.
  std::string name;
  std::string origin;
  std::string dest;
};

// What is to be written.
struct Source {
  Superblock superblock;
  clonedev::RunSource runs;
};

// It is read twice, so a pipe will not do.
std::ifstream open_input(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    throw CommandError(ExitCode::failed, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  if (!S_ISREG(info.st_mode)) {
    throw CommandError(ExitCode::failed, fmt::format("{}: is not a regular file", path));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw CommandError(ExitCode::failed, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  return file;
}

// Everything is judged before the first byte is written.
Superblock read_whole(std::istream& input) {
  DumpReader reader(input);
  Superblock superblock = value_or_give_up(reader.header());
  while (value_or_give_up(reader.run())) {
  }
  return superblock;
}

Source from_dump(const RestoreArguments& arguments) {
  auto input = std::make_shared<std::ifstream>(open_input(arguments.input));
  read_whole(*input);
  input->clear();
  input->seekg(0);
  auto reader = std::make_shared<DumpReader>(*input);
  Superblock superblock = value_or_give_up(reader->header());
  return {std::move(superblock), [input, reader] { return reader->run(); }};
}

clonedev::dm_clone::RegionMap read_dm_clone(const std::string& path) {
  auto file = ExclusiveFile::open_to_read(path, "metadata of dm-clone");
  if (!file && file.error().code == clonedev::Errc::in_use) {
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: the kernel still has it: suspend the dm-clone device, so "
                                   "that it makes everything durable, and remove it",
                                   path));
  }
  MetadataFile kernels(value_or_give_up(std::move(file)));
  return value_or_give_up(
      kernels.run([&] { return clonedev::dm_clone::read_region_map(kernels.device()); }));
}

void refuse_unless_large_enough(const Present& present, std::uint64_t size) {
  if (present.size_bytes >= size) return;
  throw CommandError(ExitCode::failed,
                     fmt::format("{}: has only {} bytes, dm-clone's device {}: it is another one",
                                 present.name, present.size_bytes, size));
}

// The bytes in a hydrated region are the destination's, whether they were copied or written:
// dm-clone does not tell.
Source from_dm_clone(const RestoreArguments& arguments) {
  auto map = std::make_shared<clonedev::dm_clone::RegionMap>(read_dm_clone(arguments.dm_clone));
  const std::unique_ptr<clonedev::Reactor> reactor = value_or_give_up(clonedev::Reactor::create());
  const Present origin = present_origin(arguments.origin, *reactor);
  const Present destination = present_destination(arguments.dest);
  const std::uint64_t size = map->geometry.size_bytes();
  refuse_unless_large_enough(origin, size);
  refuse_unless_large_enough(destination, size);
  Superblock superblock;
  superblock.sequence = 2;  // As of a clone that was just made.
  superblock.uuid = clonedev::random_id();
  superblock.name = arguments.name;
  superblock.size_bytes = size;
  superblock.region_size = map->geometry.region_size();
  superblock.units = clonedev::units_for(size);
  superblock.depth = clonedev::depth_for(clonedev::pages_for(size));
  superblock.origin_size = origin.size_bytes;
  superblock.origin_identity = origin.identity;
  superblock.destination_identity = destination.identity;
  auto next = std::make_shared<std::uint64_t>(0);
  return {std::move(superblock), [map, next]() -> Result<std::optional<StateRun>> {
            const std::uint64_t region = *next;
            if (region == map->geometry.regions()) return std::nullopt;
            const clonedev::BlockRange blocks = map->run(region);
            *next = clonedev::Geometry::divide_up(blocks.end(), map->geometry.blocks_per_region());
            const bool hydrated = map->hydrated(region);
            return StateRun{blocks, hydrated ? BlockState::destination : BlockState::origin};
          }};
}

// What is written may not be what is read or kept.
void refuse_unless_alone(const RestoreArguments& arguments) {
  const std::string meta = clonedev::place_of(arguments.meta);
  const std::string origin(clonedev::config::local_path(arguments.origin));
  for (const std::string& path : {arguments.input, arguments.dm_clone, origin, arguments.dest}) {
    if (path.empty() || meta.empty() || clonedev::place_of(path) != meta) continue;
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: is {} itself: name another file or device for the metadata",
                                   arguments.meta, path));
  }
}

// A file that is gone again unless the command succeeds.
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {}
  ~NewFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  void keep() { path_.clear(); }

 private:
  std::string path_;
};

ExclusiveFile open_target(const RestoreArguments& arguments) {
  ExclusiveFile file = open_metadata(arguments.meta, Access::change);
  if (!arguments.overwrite && value_or_give_up(file.holds_data())) {
    throw CommandError(ExitCode::failed,
                       fmt::format("{}: holds something: name another file or device, or lose what "
                                   "is there with --overwrite",
                                   arguments.meta));
  }
  return file;
}

ExclusiveFile create_target(const std::string& path, std::uint64_t size) {
  ExclusiveFile file = value_or_give_up(ExclusiveFile::create(path, "metadata", size));
  value_or_give_up(file.sync_parent());
  return file;
}

void write(MetadataFile& meta, const Source& source) {
  value_or_give_up(meta.device().grow(source.superblock.units * clonedev::kUnitBytes));
  value_or_give_up(
      meta.run([&] { return restore_metadata(meta.device(), source.superblock, source.runs); }));
  const auto report =
      value_or_give_up(meta.run([&] { return clonedev::check_metadata(meta.device()); }));
  if (report.map_sound) return;
  throw CommandError(ExitCode::damaged, fmt::format("{}: what was written does not read back: {}",
                                                    meta.path(), report.findings.front().text));
}

void restore(const RestoreArguments& arguments) {
  refuse_unless_alone(arguments);
  const Source source =
      arguments.dm_clone.empty() ? from_dump(arguments) : from_dm_clone(arguments);
  const Superblock& superblock = source.superblock;
  struct stat info {};
  const bool exists = ::stat(arguments.meta.c_str(), &info) == 0;
  ExclusiveFile file = exists
                           ? open_target(arguments)
                           : create_target(arguments.meta, superblock.units * clonedev::kUnitBytes);
  NewFile created(exists ? "" : arguments.meta);
  MetadataFile meta(std::move(file));
  write(meta, source);
  created.keep();
}

}  // namespace

void add_restore(CLI::App& app) {
  auto* command = app.add_subcommand("restore", "Make the metadata of a clone from a dump");
  auto arguments = std::make_shared<RestoreArguments>();
  auto* from = command->add_option_group("Source", "one of");
  from->add_option("-i,--input", arguments->input, "The dump")->type_name("FILE");
  auto* dm_clone = from->add_option("--from-dm-clone", arguments->dm_clone,
                                    "The metadata of the kernel's dm-clone, which is removed");
  dm_clone->type_name("DEVICE");
  from->require_option(1);
  const auto add_identity = [&](const char* option, std::string& value, const char* meaning) {
    auto* added = command->add_option(option, value, meaning);
    added->needs(dm_clone);
    dm_clone->needs(added);
    return added;
  };
  add_identity("--name", arguments->name, "The name of the clone-to-be")
      ->check(CLI::Validator(
          [](const std::string& name) {
            return name.empty() || name.size() > Superblock::kMaxName ? "1 to 127 bytes" : "";
          },
          "NAME"));
  add_identity("--origin", arguments->origin, "Its origin: dm-clone's source")->type_name("SPEC");
  add_identity("--dest", arguments->dest, "Its destination: dm-clone's")->type_name("PATH");
  command->add_option("META", arguments->meta, "The metadata file or device")->required();
  command->add_flag("--overwrite", arguments->overwrite, "What META holds may be lost");
  command->callback([arguments] { restore(*arguments); });
}

}  // namespace clonectl
