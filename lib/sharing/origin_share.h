// One opened origin that several clones read from.
//
// It is opened by the first who asks, closed when the last has left, and never opened again: after
// a loss those who had it leave, and the next who comes gets a new one (origin_hub.h).
//
// Single flight: a read that lies inside one under way joins it, unless that one began before the
// reader came, or is so old that it may hang for ever. A joined read that fails is done again for
// exactly what was wanted, if it was larger: the error may lie beside it. Reads go to memory of
// their own, which all who waited share, so that nobody's end has to wait for the server, and
// nothing is copied. It is what the clones together have under way, which is bounded by each of
// them; who joined for a small part of something large gets that part alone.
//
// An origin that answers what it was asked later and leaves something earlier without an answer is
// given up (answer_clock.h): somebody may wait for that one.
//
// Units: bytes. Thread: the hub's, but for OriginNews. Ownership: by its shared_ptr; its coroutines
// hold one too.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "io/event.h"
#include "io/spare_pages.h"
#include "origin/origin.h"
#include "sharing/answer_clock.h"

namespace clonedev {

// How the origin is, for the other threads.
class OriginNews {
 public:
  Origin::State state() const { return state_; }
  std::string last_error() const {
    const std::lock_guard lock(mutex_);
    return last_error_;
  }
  void tell(Origin::State state, std::string last_error) {
    const std::lock_guard lock(mutex_);
    last_error_ = std::move(last_error);
    state_ = state;
  }

 private:
  std::atomic<Origin::State> state_ = Origin::State::connecting;
  mutable std::mutex mutex_;
  std::string last_error_;  // protected by mutex_
};

class OriginShare : public std::enable_shared_from_this<OriginShare> {
 public:
  // What was found at the opening.
  struct Opened {
    std::uint64_t size = 0;
    std::string identity;
    std::shared_ptr<const OriginNews> news;
  };

  // `timeout`: the origin's own. `inside`: held until it is destroyed.
  OriginShare(std::unique_ptr<Origin> origin, Scheduler::Duration timeout, Gate::Holder inside);
  OriginShare(const OriginShare&) = delete;
  OriginShare& operator=(const OriginShare&) = delete;
  ~OriginShare();

  void join() { ++members_; }
  // The last one closes the origin.
  void leave();
  // Being opened, and not for long: who comes now may wait for that.
  bool just_begun() const;
  // Opened, and not lost since.
  bool usable() const;
  Scheduler::TimePoint begun() const { return begun_; }

  // Whether it shows what a fresh look shows: by an identity that holds for all of the content,
  // else by places that chance chooses too. Both are usable, and held by the caller.
  Task<bool> shows_what(OriginShare& fresh);

  // Once for all members.
  Task<Result<Opened>> open();
  // As Origin's, but always in memory of its own. Joins no read that began before `since`.
  Task<Result<OriginBytes>> read(Extent wanted, Scheduler::TimePoint since);
  Task<Result<std::vector<OriginExtent>>> extents(Extent range);

 private:
  struct Flight;
  Task<> open_origin();
  Task<Result<>> look();
  Result<OriginBytes> part_of(const OriginBytes& whole, std::size_t at, std::size_t length);
  Task<> watch();
  Task<> close_origin(std::shared_ptr<OriginShare> self);
  Task<> fly(std::shared_ptr<OriginShare> self, std::shared_ptr<Flight> flight);
  std::shared_ptr<Flight> find(Extent extent, Scheduler::TimePoint since) const;
  std::shared_ptr<Flight> begin(Extent extent);
  void tell();

  const std::unique_ptr<Origin> origin_;
  const Scheduler::Duration timeout_;
  const std::shared_ptr<SparePages> pages_;  // Of this one alone: it knows when it rests.
  const Scheduler::TimePoint begun_;
  const std::shared_ptr<OriginNews> news_ = std::make_shared<OriginNews>();
  std::size_t members_ = 0;
  bool opening_ = false;
  bool closing_ = false;
  bool given_up_ = false;
  std::optional<Result<>> opened_;
  std::string identity_;
  Event open_done_;
  Event stop_;
  Gate under_way_;
  std::list<std::shared_ptr<Flight>> flights_;
  AnswerClock answers_;
  const Gate::Holder inside_;
};

}  // namespace clonedev
