#include "engine/committer.h"

#include <algorithm>

namespace clonedev {

Committer::Committer(MetadataStore& metadata, BlockDevice& destination,
                     std::function<void(const Error&)> on_failure)
    : metadata_(metadata), destination_(destination), on_failure_(std::move(on_failure)) {}

Task<Result<>> Committer::join(Goal goal, std::uint64_t grow_to) {
  if (!failure_ && !clearing_) co_return failure_;
  if (!next_) next_ = std::make_shared<Round>();
  const std::shared_ptr<Round> round = next_;
  round->goal = std::max(round->goal, goal);
  round->grow_to = std::max(round->grow_to, grow_to);
  if (!running_) spawn(run());
  co_await round->done.wait();
  co_return round->outcome;
}

Task<Result<>> Committer::clear() {
  // A failure that is still to come is none that the admin has seen.
  if (!failure_) clearing_ = true;
  auto outcome = co_await join(Goal::states);
  co_return outcome;
}

Task<> Committer::run() {
  running_ = true;
  while (next_) {
    const std::shared_ptr<Round> round = std::exchange(next_, nullptr);
    round->outcome = co_await one(*round);
    round->done.set();
  }
  running_ = false;
}

Task<Result<>> Committer::one(const Round& round) {
  if (std::exchange(clearing_, false) && !failure_) {
    auto cleared = co_await metadata_.clear_needs_check();
    if (!cleared) co_return cleared;
    failure_ = {};
  }
  if (!failure_) co_return failure_;
  auto outcome = co_await reach(round);
  if (!outcome) {
    fail_from_now_on(outcome.error());
    // If it still can be; the failure stands either way.
    co_await metadata_.set_needs_check(outcome.error().message());
  }
  co_return outcome;
}

Task<Result<>> Committer::reach(const Round& round) {
  const bool states = metadata_.must_commit() || (round.goal != Goal::data && metadata_.dirty());
  Result<> outcome;
  if (round.grow_to > 0) {
    outcome = co_await metadata_.grow(destination_, round.grow_to);
  } else if (states) {
    outcome = co_await metadata_.commit(destination_);
  } else {
    outcome = co_await destination_.flush();
  }
  if (outcome && round.goal == Goal::completion) outcome = co_await metadata_.set_complete();
  co_return outcome;
}

void Committer::fail_from_now_on(const Error& error) {
  if (!failure_) return;
  failure_ = fail(Errc::needs_check, error.message());
  on_failure_(error);
}

}  // namespace clonedev
