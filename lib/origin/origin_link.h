// What the engine reads from: an origin that is kept connected, and checked each time it comes
// back; or, while it is away, one of its alternates.
//
// A coroutine of its own opens the origin, compares size and identity with what the clone is bound
// to (I11), publishes it, and when it is lost begins anew after a jittered, growing pause (100 ms
// up to 10 s; back to 100 ms only after a read has succeeded, so that a server which accepts and
// drops us is not hammered). Nothing is read for a caller before that comparison was passed. An
// origin with other content leaves the link down, saying "origin changed: ..."; it goes on looking
// whether the right one is back.
//
// When the one in use is lost, or cannot be reached, the next is tried (candidate_order.h), without
// a pause until each had its turn. An alternate is read from only when its content is the origin's
// (content_proof.h); one with another content is barred for good. A clone that has no binding yet
// gets it from the origin itself.
//
// Ends of a read(), the first that comes:
//  - the data;
//  - Errc::origin_read, after two more tries with short pauses: the origin has an error there;
//  - Errc::busy, with the reason: `give_up` has come, or the origin has been *known down* for a
//    second, while no connection was there. A read that is inside the origin when `give_up` comes
//    ends with the origin's own time-out at the latest;
//  - Errc::closed: close() was called.
// Known down: an attempt to connect has failed, with every candidate, or there was no connection
// for two seconds.
//
// Units: bytes. Thread: the scheduler's that is current() in open(). Ownership: of the room of a
// read as Origin's; close() has ended before the link is destroyed.
#pragma once

#include <cstdint>
#include <optional>
#include <random>

#include "io/event.h"
#include "origin/candidate_order.h"
#include "origin/content_proof.h"

namespace clonedev {

class OriginLink {
 public:
  // What the clone is bound to: kept in its superblock.
  struct Binding {
    std::uint64_t size = 0;
    std::string identity;
    bool operator==(const Binding&) const = default;
  };
  struct Pace {
    Scheduler::Duration first_pause = std::chrono::milliseconds(100);
    Scheduler::Duration longest_pause = std::chrono::seconds(10);
    Scheduler::Duration known_down_after = std::chrono::seconds(2);
    Scheduler::Duration patience_when_down = std::chrono::seconds(1);
    // Of the pauses' jitter: hosts whose origin comes back do not all return at once.
    std::uint32_t jitter_seed = std::random_device{}();
  };

  // The origin, then its alternates; their names are for sentences and the log. Without `expected`
  // the first connection defines it.
  OriginLink(std::vector<OriginCandidate> candidates, std::optional<Binding> expected, Pace pace);
  OriginLink(std::vector<OriginCandidate> candidates, std::optional<Binding> expected);
  OriginLink(std::string name, OriginFactory factory, std::optional<Binding> expected, Pace pace);
  OriginLink(std::string name, OriginFactory factory, std::optional<Binding> expected);
  OriginLink(const OriginLink&) = delete;
  OriginLink& operator=(const OriginLink&) = delete;
  ~OriginLink();

  // One of the two, once. start() connects in the background. open() waits for it: at least one
  // attempt is made; Errc::unavailable is tried again until give_up, Errc::foreign (another
  // content than expected), Errc::refused and Errc::bad_config are final. After an error: close().
  void start();
  Task<Result<>> open(Scheduler::TimePoint give_up);

  // After start(): waits until the first attempt has ended, or the deadline. An error only when
  // another content than the expected was found; an origin that is merely away is none.
  Task<Result<>> refuse_if_changed(Scheduler::TimePoint deadline);

  // As expected, or as found by the first connection; 0 before that.
  std::uint64_t size() const { return binding_ ? binding_->size : 0; }
  const std::optional<Binding>& binding() const { return binding_; }

  // As Origin::read().
  Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room,
                                 Scheduler::TimePoint give_up);
  // As Origin::extents(); waits and ends like read().
  Task<Result<std::vector<OriginExtent>>> extents(Extent range, Scheduler::TimePoint give_up);
  // Whether there is a connection; false: the deadline came first, or close(). For background
  // work that has nothing better to do meanwhile.
  Task<bool> wait_until_connected(Scheduler::TimePoint deadline);

  Origin::State state() const;
  // Connected, or not yet known down: waiting may be worth the caller's whole deadline.
  bool believed_alive() const;
  // It was known down, and nothing has been read since: a server that takes connections and drops
  // each of them is lost too.
  bool known_lost() const;
  // The name of the candidate that is read from; empty: none at the moment.
  std::string in_use() const { return current_ ? candidates_.current().candidate.name : ""; }
  // The latest error, also when it is over; empty: none.
  const std::string& last_error() const { return last_error_; }
  std::uint64_t bytes_read() const { return bytes_read_; }  // By read(), successfully.
  std::uint64_t errors() const { return errors_; }  // Failed reads and connections, retried or not.

  // Ends every wait at once and gives the origin up for good. Idempotent.
  Task<> close();

 private:
  Task<> maintain();
  Task<bool> attempt();
  Task<> use(const std::shared_ptr<Origin>& origin);
  Task<> learn(Origin& origin);
  Task<Result<>> bring_up(Origin& origin);
  Task<Result<>> check_alternate(Origin& alternate, const std::string& found);
  Task<> watch_over(const Origin& origin);
  void publish(const std::shared_ptr<Origin>& origin);
  void lose(const Origin& origin);
  void attempt_failed(const Error& error);
  void all_failed();
  Scheduler::Duration next_pause();
  Result<> compare(const Binding& found);

  Task<Result<std::shared_ptr<Origin>>> connected_origin(Scheduler::TimePoint give_up);
  Task<Result<>> after_failure(const Origin& origin, Error error, unsigned& tries,
                               Scheduler::TimePoint give_up);
  Scheduler::TimePoint now() const;
  Scheduler::TimePoint known_down_at() const;
  Error busy() const;
  void note(const Error& error);

  const Pace pace_;
  CandidateOrder candidates_;
  ContentProof proof_{pace_.jitter_seed};
  const std::string name_;  // Of the origin.
  std::optional<Binding> binding_;

  Scheduler* scheduler_ = nullptr;  // Since start().
  bool closing_ = false;
  std::shared_ptr<Origin> attempt_;  // Being opened, in use, or being closed.
  std::shared_ptr<Origin> current_;  // Verified; the same as attempt_.
  std::optional<Error> failed_;      // Of this round: the origin's error, else the latest.
  std::optional<Error> verdict_;     // Of the last round, when it failed.
  Scheduler::TimePoint apart_since_;
  bool away_ = false;  // Known down, then no read yet.
  std::optional<Scheduler::TimePoint> down_since_;
  Scheduler::Duration pause_;
  std::minstd_rand jitter_{pace_.jitter_seed};

  Event news_;  // Only ever woken: connected, attempt failed, closing.
  Event lost_;
  Event stop_;
  Gate gate_;

  std::string last_error_;
  std::string used_last_;  // The candidate's name.
  std::uint64_t bytes_read_ = 0;
  std::uint64_t errors_ = 0;
};

}  // namespace clonedev
