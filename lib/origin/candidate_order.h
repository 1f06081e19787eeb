// Which of several places with the same content is tried next: the `origin` first, then its
// alternates in their order, round after round. Pure.
//
// One that is in use stays in use until it is lost; whoever comes after it in the order is next, so
// that two of them are used in turn and nothing flaps while both are well. Thread: one.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "origin/origin_factory.h"

namespace clonedev {

class CandidateOrder {
 public:
  struct Place {
    OriginCandidate candidate;
    std::string accepted;  // The identity that its content was found to be right under; or empty.
    std::string said;      // The trouble with it that the log was told of; empty: none.
    bool barred = false;   // It holds something else, and is never tried again.
    bool tried = false;    // In this round.
  };

  // At least one; the first is the `origin`, which is never barred.
  explicit CandidateOrder(std::vector<OriginCandidate> candidates);

  Place& current() { return places_[at_]; }
  const Place& current() const { return places_[at_]; }
  const Place& origin() const { return places_.front(); }
  bool at_origin() const { return at_ == 0; }
  bool has_alternates() const { return places_.size() > 1; }

  void begin_round();
  // Goes on to the next that this round has not tried; false: there is none, and nothing changes.
  bool next();
  // Whether the log has been told of trouble with any; forgets it.
  bool forget_said();

 private:
  std::vector<Place> places_;
  std::size_t at_ = 0;
};

}  // namespace clonedev
