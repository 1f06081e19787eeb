#include "origin/candidate_order.h"

#include <cassert>
#include <utility>

namespace clonedev {

CandidateOrder::CandidateOrder(std::vector<OriginCandidate> candidates) {
  assert(!candidates.empty());
  for (OriginCandidate& candidate : candidates) {
    Place place;
    place.candidate = std::move(candidate);
    places_.push_back(std::move(place));
  }
}

void CandidateOrder::begin_round() {
  for (Place& place : places_) place.tried = false;
}

bool CandidateOrder::next() {
  for (std::size_t step = 1; step <= places_.size(); ++step) {
    const std::size_t at = (at_ + step) % places_.size();
    if (places_[at].tried || places_[at].barred) continue;
    at_ = at;
    return true;
  }
  return false;
}

bool CandidateOrder::forget_said() {
  bool any = false;
  for (Place& place : places_) any = !std::exchange(place.said, {}).empty() || any;
  return any;
}

}  // namespace clonedev
