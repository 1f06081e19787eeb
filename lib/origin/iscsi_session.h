// One session with an iSCSI target, driven by libiscsi on the reactor.
//
// Life: looking up the host's name (a thread does, see host_lookup.h) -> connecting to one address
// after the other -> logging in, elsewhere if the target says that it has moved -> ready -> torn
// down. libiscsi would connect again by itself; it is told not to (OriginLink does that), and knows
// no time-outs of its own here, so it is only called when its socket is ready.
//
// I14, buffers: libiscsi writes into a command's buffer as long as its context lives. So whatever
// the reason - time-out, close(), broken session - the context is destroyed first and only then do
// the commands fail. Its callbacks come from inside libiscsi; waiters are scheduled, not resumed.
//
// What a target answers instead of data:
//  - unit attention: asked again, at once, at most ten times; a capacity or an identity that has
//    changed is Errc::unavailable, so that whoever connects again compares (I11);
//  - BUSY, TASK SET FULL, ACA ACTIVE, TASK ABORTED: asked again after a growing pause, for
//    `patience`; then Errc::unavailable;
//  - not ready, no such LUN any more, beyond the end, reserved by another: Errc::unavailable;
//  - any other sense, a medium error above all: Errc::origin_read.
//
// Watchdog: commands outstanding and none completed for `patience`, or no session within
// `patience`: the session is torn down.
//
// Units: bytes. Thread: the reactor's. Ownership: buffers stay the caller's.
#pragma once

#include <list>
#include <memory>
#include <random>
#include <string>

#include "core/iscsi_url.h"
#include "io/event.h"
#include "io/reactor.h"
#include "origin/scsi_disk.h"

struct iscsi_context;

namespace clonedev {

// "iqn.2026-01.io.tcmu-clone:" and the host's name: whom a target's access list has to know.
std::string default_iscsi_initiator();

class IscsiSession {
 public:
  // `name` is for sentences (origin_name.h).
  IscsiSession(Reactor& reactor, IscsiUrl url, std::string name, Scheduler::Duration patience);
  IscsiSession(const IscsiSession&) = delete;
  IscsiSession& operator=(const IscsiSession&) = delete;
  ~IscsiSession();  // After close().

  // Once. Errc::refused: the target does not let us in; Errc::unavailable: it cannot be reached.
  Task<Result<>> connect();
  // An answer of at most buffer.size() bytes; what does not come stays as it was.
  Task<Result<>> ask(ScsiCommand command, std::span<std::byte> buffer);
  // The same, but all of the buffer has to come; it has 8 bytes or more.
  Task<Result<>> read(ScsiCommand command, std::span<std::byte> buffer);

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
  enum class Login { under_way, done, failed, moved };
  struct Place {
    std::string host;
    std::uint16_t port;
  };
  struct ContextDestroyer {
    void operator()(iscsi_context* context) const;
  };
  struct Request;
  struct Watchdog;
  struct Retries;

  Task<Result<>> reach(Place place);
  Task<Result<std::vector<std::string>>> look_up(std::string host);
  Task<> log_in(std::string portal);
  Result<> make_context();
  bool moved_to(Place& place) const;
  Task<> pump();
  Task<> turn();
  void serve(int events);
  bool stopping() const { return closing_ || broken_; }

  static void on_connected(iscsi_context* context, int status, void* data, void* self);
  static void on_login(iscsi_context* context, int status, void* data, void* self);
  static void on_answer(iscsi_context* context, int status, void* data, void* request);

  Task<Result<>> run(ScsiCommand command, std::span<std::byte> buffer, bool whole);
  bool issue(Request& request);
  void complete(Request& request, int status);
  Result<bool> judge(const Request& request, Retries& retries, bool whole);
  Result<bool> judge_sense(const Request& request, Retries& retries);
  Error origin_error(const Request& request, const std::string& why) const;
  Error give_up(std::string why);
  Scheduler::Duration pause(Retries& retries) const;

  void tear_down();
  void wake();
  void watch_progress();
  void on_watchdog();
  void break_off(std::string why);
  void note_failure(const std::string& why);
  std::string library_error() const;
  Error lost_error() const;

  Reactor& reactor_;
  const IscsiUrl url_;
  const std::string name_;
  const Scheduler::Duration patience_;
  std::unique_ptr<iscsi_context, ContextDestroyer> context_;
  Phase phase_ = Phase::idle;
  Login login_ = Login::under_way;
  bool was_ready_ = false;
  bool closing_ = false;
  bool broken_ = false;
  bool refused_ = false;   // By what the failure says: no waiting will help.
  std::string failure_;    // The first reason, for everybody who asks later.
  std::string attempt_;    // Why the last address did not let us in.
  std::string old_sense_;  // What libiscsi's last error says as long as there was no newer one.
  std::mt19937_64 random_{std::random_device{}()};

  Reactor::Watch* watch_ = nullptr;  // Of whoever waits for a descriptor right now.
  std::list<Request*> requests_;
  std::unique_ptr<Watchdog> watchdog_;
  Scheduler::TimePoint last_progress_;
  Event stop_;  // Ends pauses.
  Gate gate_;
};

}  // namespace clonedev
