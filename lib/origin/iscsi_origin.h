// A LUN of an iSCSI target as the origin, over several sessions.
//
// open() returns with the first session; the others join while reads already run, and a target that
// allows fewer is read over fewer. A read is split into pieces (at most the disk's own maximum),
// each sent where the fewest are outstanding, and widened to whole sectors. When one session is
// lost the origin counts as lost: state() is down, and whoever wraps it (origin_link.h) opens a new
// one.
//
// identity(): "iscsi:naa=..;size=..;samples=.." (or eui=.., t10=.., or no name). Samples always: a
// target like tgt makes its names of numbers, and two of them, or one set up anew, use the same.
// extents(): by GET LBA STATUS where unmapped sectors are said to read as zeroes, else nothing.
//
// Nothing here can write: see scsi_disk.h for all that is ever sent.
//
// Units, thread, ownership: see origin.h and iscsi_session.h.
#pragma once

#include <memory>
#include <vector>

#include "io/event.h"
#include "io/reactor.h"
#include "origin/iscsi_session.h"
#include "origin/origin.h"
#include "origin/piece_reader.h"

namespace clonedev {

class IscsiOrigin final : public Origin, private PieceReader {
 public:
  // `patience` as in iscsi_session.h; `sessions` is the most that are made.
  IscsiOrigin(Reactor& reactor, std::string spec, Scheduler::Duration patience, unsigned sessions);
  ~IscsiOrigin() override;

  // Errc::bad_config: not a URL. Errc::unavailable: cannot be reached. Errc::refused: not let in,
  // no such LUN, no disk, no medium, empty.
  Task<Result<>> open() override;
  std::uint64_t size() const override { return disk_.size; }
  Task<Result<std::string>> identity() override;
  Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room) override;
  Task<Result<std::vector<OriginExtent>>> extents(Extent range) override;
  State state() const override;
  std::string last_error() const override { return last_error_; }
  Task<> close() override;

  std::size_t usable_sessions() const;
  const ScsiDisk& disk() const { return disk_; }

 private:
  IscsiSession& add_session();
  Task<> join();
  Task<Result<ScsiDisk>> learn(IscsiSession& session);
  Task<Result<>> learn_pages(IscsiSession& session, ScsiDisk& disk);
  IscsiSession* least_busy() const;
  Task<Result<>> read_piece(std::uint64_t offset, std::span<std::byte> buffer) override;
  Error named(const Error& error) const;
  Error remember(Error error);
  Error no_session();

  Reactor& reactor_;
  const std::string spec_;
  const std::string name_;
  const Result<IscsiUrl> url_;
  const Scheduler::Duration patience_;
  const unsigned most_sessions_;
  ScsiDisk disk_;
  std::vector<std::unique_ptr<IscsiSession>> sessions_;
  bool tells_holes_ = true;
  bool opened_ = false;
  bool closed_ = false;
  bool failed_ = false;  // Beyond what the sessions themselves know.
  std::string last_error_;
  Gate gate_;
};

}  // namespace clonedev
