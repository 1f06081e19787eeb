// Where the clones of this process that have one origin meet: equal specification and settings are
// one origin, with one set of connections, and equal reads under way are one.
//
// Each origin lives on a reactor and thread of its own: no clone depends on another's, each may be
// closed at any moment and waits for nothing that others have asked for; and no origin depends on
// another's.
//
// Who comes while the origin is open has it opened once more, for as long as it takes to see that
// it is what the others have: servers bind a connection, a redirect or an entity tag to what was
// there when it was made, and who comes now means what is there now. When it is something else,
// those who have the old one keep it, and the next who come get the new one.
//
// Thread: any, unless stated.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "origin/origin_factory.h"
#include "sharing/origin_share.h"

namespace clonedev {

// A clone at the hub. Hub's thread.
struct OriginMember {
  std::shared_ptr<OriginShare> share;  // Also while it is being opened.
  Scheduler::TimePoint since;
  bool left = false;

  // At any moment, once. What is under way for it alone ends with an error.
  void leave();
};

class OriginHub {
 public:
  // That of this origin, which ends with the last who holds it. Errors: Errc::bad_config; no
  // reactor, no thread.
  static Result<std::shared_ptr<OriginHub>> of(std::string_view spec,
                                               const OriginSettings& settings);
  OriginHub(const OriginHub&) = delete;
  OriginHub& operator=(const OriginHub&) = delete;
  // Waits until every connection is closed; the members have left. Not on the hub's own thread.
  ~OriginHub();

  // Runs on the hub's thread, in order.
  void post(std::function<void()> work) { reactor_->post(std::move(work)); }

  // Hub's thread. Gives the member its share. The member outlives the task.
  Task<Result<OriginShare::Opened>> join(OriginMember& member);

 private:
  OriginHub(std::unique_ptr<Reactor> reactor, Scheduler::Duration timeout)
      : reactor_(std::move(reactor)), timeout_(timeout) {}
  static Result<std::shared_ptr<OriginHub>> create(std::string_view spec,
                                                   const OriginSettings& settings);
  void start();
  Task<> finish();
  std::shared_ptr<OriginShare> share_to_open();
  void keep_newest(const std::shared_ptr<OriginShare>& share);
  struct Comparison;
  Task<bool> shows_the_same(std::shared_ptr<OriginShare> there, std::shared_ptr<OriginShare> mine);
  Task<> compare(std::shared_ptr<OriginShare> there, std::shared_ptr<OriginShare> mine,
                 std::shared_ptr<Comparison> comparison);

  // Constant after create().
  const std::unique_ptr<Reactor> reactor_;
  const Scheduler::Duration timeout_;
  OriginFactory factory_;
  std::thread thread_;

  // Hub's thread.
  std::weak_ptr<OriginShare> current_;
  Gate inside_;
};

}  // namespace clonedev
