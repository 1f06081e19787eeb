// An NBD export as the origin: several connections when the server says that they see one
// content (multi-conn), else one.
//
// open() returns with the first connection; the others join while reads already run. A read is
// split into pieces of at most 1 MiB (or the server's own maximum), each sent where the fewest are
// outstanding. When one connection is lost the origin counts as lost: state() is down, and whoever
// wraps it (origin_link.h) opens a new one.
//
// identity(): "nbd:size=..;samples=..": the protocol has no name for content.
//
// Units, thread, ownership: see origin.h and nbd_connection.h.
#pragma once

#include <memory>
#include <vector>

#include "io/event.h"
#include "io/reactor.h"
#include "origin/nbd_connection.h"
#include "origin/origin.h"
#include "origin/piece_reader.h"

namespace clonedev {

class NbdOrigin final : public Origin, private PieceReader {
 public:
  // `patience` as in nbd_connection.h; `connections` is the most that are made.
  NbdOrigin(Reactor& reactor, std::string uri, Scheduler::Duration patience, unsigned connections);
  ~NbdOrigin() override;

  // Errc::bad_config: not a URI; Errc::unavailable: cannot be reached; Errc::refused: empty.
  Task<Result<>> open() override;
  std::uint64_t size() const override { return export_.size; }
  Task<Result<std::string>> identity() override;
  Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room) override;
  Task<Result<std::vector<OriginExtent>>> extents(Extent range) override;
  State state() const override;
  std::string last_error() const override { return last_error_; }
  Task<> close() override;

  std::size_t usable_connections() const;

 private:
  NbdConnection& add_connection();
  Task<> join();
  NbdConnection* least_busy() const;
  Task<Result<>> read_piece(std::uint64_t offset, std::span<std::byte> buffer) override;
  Error remember(Error error);
  Error no_connection();

  Reactor& reactor_;
  const std::string uri_;
  const Scheduler::Duration patience_;
  const unsigned most_connections_;
  NbdConnection::Export export_;
  std::vector<std::unique_ptr<NbdConnection>> connections_;
  bool opened_ = false;
  bool closed_ = false;
  bool failed_ = false;  // Beyond what the connections themselves know.
  std::string last_error_;
  Gate gate_;
};

}  // namespace clonedev
