// One connection to an NBD server, driven by libnbd's state machine on the reactor.
//
// Life: dialling (a thread, up to the end of the handshake, see nbd_dial.h) -> ready -> torn down.
// One coroutine, the pump, polls the socket and is the only one that closes the handle. libnbd is
// never called in a way that blocks the reactor.
//
// I14, buffers: libnbd writes into a request's buffer as long as its handle lives. So whatever
// the reason - time-out, close(), broken connection - the handle is closed first and only then do
// the requests fail. The completion callback of a broken connection comes from inside libnbd;
// waiters are scheduled, not resumed, so they run after libnbd has returned and the socket is gone.
//
// Watchdog: requests outstanding and none completed for `patience`, or no connection within
// `patience`: the connection is torn down.
//
// Units: bytes. Thread: the reactor's. Ownership: buffers stay the caller's.
#pragma once

#include <list>
#include <memory>
#include <string>

#include "io/event.h"
#include "io/reactor.h"
#include "origin/nbd_dial.h"
#include "origin/origin.h"

namespace clonedev {

class NbdConnection {
 public:
  // What the server said of its export.
  struct Export {
    std::uint64_t size = 0;
    std::uint32_t minimum = 1;  // Requests are multiples of this; a power of two, at most 64 KiB.
    std::uint32_t maximum = 0;  // Of one request; a multiple of the minimum.
    bool multi_conn = false;
    bool block_status = false;
  };

  NbdConnection(Reactor& reactor, std::string uri, Scheduler::Duration patience);
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;
  ~NbdConnection();  // After close().

  // Once. Errors: Errc::bad_config, Errc::unavailable.
  Task<Result<>> connect();
  const Export& exported() const { return export_; }  // When connected.
  // One request; obeys Export. Errors as in Origin::read.
  Task<Result<>> read(std::uint64_t offset, std::span<std::byte> buffer);
  // One request; obeys Export; length below 4 GiB. Covers the range from its beginning.
  Task<Result<std::vector<OriginExtent>>> block_status(Extent range);

  bool usable() const { return phase_ == Phase::ready && !stopping(); }
  // Was ready and is not any more.
  bool lost() const { return was_ready_ && !usable(); }
  std::size_t outstanding() const { return requests_.size(); }
  const std::string& failure() const { return failure_; }

  // Begins the end; close() waits for it.
  void stop();
  Task<> close();

 private:
  enum class Phase { idle, connecting, ready, torn_down };
  struct Request;
  struct Watchdog;

  Task<Result<>> dial();
  Task<> pump();
  bool stopping() const { return closing_ || broken_; }
  Result<> become_ready();
  Result<> learn_export();
  void after_issue();
  void tear_down();
  void wake();

  void watch_progress();
  void on_watchdog();

  void break_off(std::string why);
  void note_failure(const char* text);
  Error lost_error() const;
  Error verdict(const Request& request, const char* what);

  static int on_chunk(void* data, const void* bytes, std::size_t count, std::uint64_t offset,
                      unsigned status, int* error);
  static int on_extents(void* data, const char* context, std::uint64_t offset,
                        std::uint32_t* entries, std::size_t count, int* error);
  static int on_done(void* data, int* error);
  void complete(Request& request, int error);
  void retire(std::int64_t cookie);

  Reactor& reactor_;
  const std::string uri_;
  const Scheduler::Duration patience_;
  NbdHandle handle_;
  Export export_;
  Phase phase_ = Phase::idle;
  bool was_ready_ = false;
  bool closing_ = false;
  bool broken_ = false;
  std::string failure_;  // The first reason, for everybody who asks later.

  Reactor::Watch* watch_ = nullptr;  // Of whoever waits for a descriptor right now.
  std::list<Request*> requests_;
  std::unique_ptr<Watchdog> watchdog_;
  Scheduler::TimePoint last_progress_;
  Gate gate_;
};

}  // namespace clonedev
