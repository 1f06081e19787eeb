#include "files_before.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "metadata/unit_io.h"
#include "metadata_file.h"

namespace clonectl {
namespace {

std::optional<std::uint64_t> size_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  return static_cast<std::uint64_t>(info.st_size);
}

bool is_file(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

bool is_blank(const std::string& path) {
  MetadataFile meta(open_metadata(path, Access::read));
  const auto read = meta.run([&] { return clonedev::read_superblock(meta.device()); });
  return read && !read->has_value();
}

std::string trouble(const std::string& path, int outcome) {
  if (outcome == 0 || errno == ENOENT) return {};
  return fmt::format("{}: cannot be put back: {}", path, std::strerror(errno));
}

}  // namespace

FilesBefore::FilesBefore(const std::string& name, const clonedev::Options& options,
                         const std::string& state_dir)
    : name_(name),
      known_(state_dir),
      dest_(options.dest),
      meta_(options.meta.empty() ? fmt::format("{}/{}.meta", state_dir, name) : options.meta),
      record_(known_.path(name)),
      overwritten_(options.init_overwrite),
      dest_size_(size_of(dest_)),
      meta_size_(size_of(meta_)) {
  there_ = size_of(record_) || (meta_size_ && !is_blank(meta_));
}

std::string FilesBefore::put_back() const {
  if (there_) return {};
  if (!made_of_these()) {
    return fmt::format("{} and {} are left alone: {} does not say that they are of {}", dest_,
                       meta_, record_, name_);
  }
  const auto forgotten = known_.forget(name_);
  std::vector<std::string> left = {put_back_destination(), put_back_metadata(),
                                   forgotten ? "" : forgotten.error().message()};
  std::erase(left, "");
  return fmt::format("{}", fmt::join(left, "; "));
}

// A daemon with another folder of records has opened what this one knows nothing of.
bool FilesBefore::made_of_these() const {
  const auto known = known_.find(name_);
  return known && *known && (*known)->dest == dest_ && (*known)->meta == meta_;
}

std::string FilesBefore::put_back_destination() const {
  if (!dest_size_) return trouble(dest_, ::unlink(dest_.c_str()));
  if (!is_file(dest_)) {
    return fmt::format("{}: keeps what was copied to it meanwhile: blkdiscard it", dest_);
  }
  // It held nothing, so what it holds now was copied meanwhile.
  if (!overwritten_ && ::truncate(dest_.c_str(), 0) != 0) return trouble(dest_, -1);
  if (::truncate(dest_.c_str(), static_cast<off_t>(*dest_size_)) != 0) return trouble(dest_, -1);
  if (!overwritten_) return {};
  return fmt::format("{}: what it held may be overwritten, as init=overwrite says", dest_);
}

std::string FilesBefore::put_back_metadata() const {
  if (!meta_size_) return trouble(meta_, ::unlink(meta_.c_str()));
  try {
    MetadataFile meta(open_metadata(meta_, Access::change));
    auto head = value_or_give_up(meta.run([&] { return clonedev::read_head(meta.device()); }));
    for (clonedev::Unit& unit : head) unit.bytes.fill(std::byte{0});
    value_or_give_up(meta.run([&] { return clonedev::write_head(meta.device(), head); }));
  } catch (const CommandError& error) {
    return error.what();
  }
  if (!is_file(meta_)) return {};
  return trouble(meta_, ::truncate(meta_.c_str(), static_cast<off_t>(*meta_size_)));
}

}  // namespace clonectl
