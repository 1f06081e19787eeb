// A regular file or a block device as the origin.
//
// Opened O_RDONLY. Reads whose buffer, offset and length are multiples of 4 KiB go past the page
// cache where the file system can do that; the others (the tail) through it. Two ways to read are
// harmless here, unlike on the destination (I15): nothing is ever written.
//
// identity(): "blockdev:wwn=..;size=.." (or dm=..) where the kernel knows the device;
// "blockdev:size=..;samples=.." where it does not; "file:size=..;mtime=..;samples=.." for files.
//
// Units, thread, ownership: see origin.h. open() makes a few blocking calls on a local path.
// close() waits for the reads under way: a disk cannot be told to stop.
#pragma once

#include <optional>

#include "io/event.h"
#include "io/reactor.h"
#include "origin/hole_map.h"
#include "origin/origin.h"

namespace clonedev {

class FileOrigin final : public Origin {
 public:
  FileOrigin(Reactor& reactor, std::string path) : reactor_(reactor), path_(std::move(path)) {}
  ~FileOrigin() override;

  // Errc::unavailable: missing or not readable. Errc::refused: not a file or device, or empty.
  Task<Result<>> open() override;
  std::uint64_t size() const override { return size_; }
  Task<Result<std::string>> identity() override;
  Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room) override;
  Task<Result<std::vector<OriginExtent>>> extents(Extent range) override;
  State state() const override { return state_; }
  std::string last_error() const override { return last_error_; }
  Task<> close() override;

  bool direct() const { return direct_works_; }

 private:
  Result<> open_path();
  Result<> judge_kind(unsigned mode);
  Result<> measure();
  void open_direct();
  int choose(std::uint64_t offset, iovec& piece) const;
  bool changed_in_use() const;
  Error not_open();
  Error read_error(int result, std::uint64_t offset);
  Error error(Errc code, const std::string& what);

  Reactor& reactor_;
  const std::string path_;
  int fd_ = -1;
  int direct_fd_ = -1;  // The same inode with O_DIRECT, or -1.
  bool direct_works_ = false;
  bool block_device_ = false;
  dev_t device_ = 0;
  std::uint64_t mtime_ns_ = 0;
  std::uint64_t size_ = 0;
  std::optional<HoleMap> holes_;
  State state_ = State::connecting;
  std::string last_error_;
  Gate gate_;
};

}  // namespace clonedev
