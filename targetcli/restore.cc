#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "commands.h"
#include "metadata/dump.h"
#include "metadata/metadata_check.h"
#include "metadata_file.h"

namespace clonectl {
namespace {

using clonedev::DumpReader;
using clonedev::ExclusiveFile;
using clonedev::Superblock;

struct RestoreArguments {
  std::string input;
  std::string meta;
  bool overwrite = false;
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

void write(MetadataFile& meta, const Superblock& superblock, std::istream& input) {
  value_or_give_up(meta.device().grow(superblock.units * clonedev::kUnitBytes));
  input.clear();
  input.seekg(0);
  DumpReader reader(input);
  value_or_give_up(meta.run([&] { return restore_metadata(meta.device(), superblock, reader); }));
  const auto report =
      value_or_give_up(meta.run([&] { return clonedev::check_metadata(meta.device()); }));
  if (report.map_sound) return;
  throw CommandError(ExitCode::damaged, fmt::format("{}: what was written does not read back: {}",
                                                    meta.path(), report.findings.front().text));
}

void restore(const RestoreArguments& arguments) {
  std::ifstream input = open_input(arguments.input);
  const Superblock superblock = read_whole(input);
  struct stat info {};
  const bool exists = ::stat(arguments.meta.c_str(), &info) == 0;
  ExclusiveFile file = exists
                           ? open_target(arguments)
                           : create_target(arguments.meta, superblock.units * clonedev::kUnitBytes);
  NewFile created(exists ? "" : arguments.meta);
  MetadataFile meta(std::move(file));
  write(meta, superblock, input);
  created.keep();
}

}  // namespace

void add_restore(CLI::App& app) {
  auto* command = app.add_subcommand("restore", "Make the metadata of a clone from a dump");
  auto arguments = std::make_shared<RestoreArguments>();
  command->add_option("-i,--input", arguments->input, "The dump")->required()->type_name("FILE");
  command->add_option("META", arguments->meta, "The metadata file or device")->required();
  command->add_flag("--overwrite", arguments->overwrite, "What META holds may be lost");
  command->callback([arguments] { restore(*arguments); });
}

}  // namespace clonectl
