#include "origin/origin_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace clonedev {
namespace {

using TimePoint = Scheduler::TimePoint;
using Duration = Scheduler::Duration;
using std::chrono::milliseconds;

constexpr unsigned kTries = 3;  // Of a read the origin answers with an error.
constexpr milliseconds kRetryPauses[kTries - 1] = {milliseconds(50), milliseconds(250)};
constexpr milliseconds kLookAfter(1000);

constexpr const char* kMoved =
    "bring the right one back, or, after a deliberate move, clonectl repair META --rebind --origin";
// A touch, a copy and a restore do that, but so does a write; samples cannot tell.
constexpr const char* kTouched =
    "size and samples are the same, only the time of its last change is not: when its content is "
    "certainly what it was, rebind the clone";

// A file's identity but for its modification time.
std::string without_time(const std::string& identity) {
  const std::size_t begin = identity.find(";mtime=");
  if (begin == std::string::npos) return identity;
  const std::size_t end = std::min(identity.find(';', begin + 1), identity.size());
  return identity.substr(0, begin) + identity.substr(end);
}

bool final_verdict(const Error& error) {
  return error.code == Errc::foreign || error.code == Errc::refused ||
         error.code == Errc::bad_config;
}

}  // namespace

OriginLink::OriginLink(std::vector<OriginCandidate> candidates, std::optional<Binding> expected,
                       Pace pace)
    : pace_(pace),
      candidates_(std::move(candidates)),
      name_(candidates_.origin().candidate.name),
      binding_(std::move(expected)),
      pause_(pace.first_pause) {}

OriginLink::OriginLink(std::vector<OriginCandidate> candidates, std::optional<Binding> expected)
    : OriginLink(std::move(candidates), std::move(expected), Pace()) {}

OriginLink::OriginLink(std::string name, OriginFactory factory, std::optional<Binding> expected,
                       Pace pace)
    : OriginLink({{std::move(name), std::move(factory)}}, std::move(expected), pace) {}

OriginLink::OriginLink(std::string name, OriginFactory factory, std::optional<Binding> expected)
    : OriginLink(std::move(name), std::move(factory), std::move(expected), Pace()) {}

OriginLink::~OriginLink() { assert(!attempt_ && gate_.idle() && "close() it first"); }

TimePoint OriginLink::now() const { return scheduler_ ? scheduler_->now() : TimePoint::min(); }

void OriginLink::start() {
  scheduler_ = &Scheduler::current();
  apart_since_ = now();
  spawn(maintain());
}

Task<Result<>> OriginLink::open(TimePoint give_up) {
  const auto inside = gate_.enter();
  start();
  while (!current_ && !closing_) {
    if (verdict_ && (final_verdict(*verdict_) || now() >= give_up)) co_return fail(*verdict_);
    co_await news_.wait();
  }
  if (closing_) co_return fail(Errc::closed, fmt::format("origin {}: closed", name_));
  co_return Result<>();
}

Task<Result<>> OriginLink::refuse_if_changed(TimePoint deadline) {
  const auto inside = gate_.enter();
  while (!current_ && !closing_ && !verdict_ && now() < deadline) {
    co_await news_.wait_until(deadline);
  }
  if (verdict_ && verdict_->code == Errc::foreign) co_return fail(*verdict_);
  co_return Result<>();
}

Task<> OriginLink::maintain() {
  const auto inside = gate_.enter();
  while (!closing_) {
    const bool was_used = co_await attempt();
    if (closing_) break;
    // Who makes a clone names its origin: no alternate takes its place.
    if (!was_used && binding_ && candidates_.next()) continue;
    if (!was_used) all_failed();
    const TimePoint next = now() + next_pause();
    co_await stop_.wait_until(next);
    candidates_.begin_round();
    if (binding_) candidates_.next();
  }
}

// With one candidate. Whether it was read from, until it was lost.
Task<bool> OriginLink::attempt() {
  candidates_.current().tried = true;
  const std::shared_ptr<Origin> origin(candidates_.current().candidate.factory());
  attempt_ = origin;
  auto verdict = co_await bring_up(*origin);
  const bool used = verdict && !closing_;
  if (used) {
    co_await use(origin);
  } else if (!closing_) {
    attempt_failed(verdict.error());
  }
  co_await origin->close();
  attempt_.reset();
  co_return used;
}

// Until it is lost. What alternates are compared with is read meanwhile: no user waits for that.
Task<> OriginLink::use(const std::shared_ptr<Origin>& origin) {
  publish(origin);
  Task<> learning = learn(*origin);
  co_await watch_over(*origin);
  lose(*origin);
  co_await origin->close();
  co_await std::move(learning);
}

Task<> OriginLink::learn(Origin& origin) {
  if (!candidates_.at_origin() || !candidates_.has_alternates()) co_return;
  auto learned = co_await proof_.learn(origin);
  (void)learned;  // Its loss is noticed by who watches over it, and the next time is as good.
}

Task<Result<>> OriginLink::bring_up(Origin& origin) {
  if (auto opened = co_await origin.open(); !opened) co_return fail(opened.error());
  auto identity = co_await origin.identity();
  if (!identity) co_return fail(identity.error());
  if (!candidates_.at_origin()) co_return co_await check_alternate(origin, *identity);
  const Binding found{origin.size(), std::move(*identity)};
  co_return compare(found);
}

Task<Result<>> OriginLink::check_alternate(Origin& alternate, const std::string& found) {
  CandidateOrder::Place& place = candidates_.current();
  if (place.accepted == found && alternate.size() == binding_->size) co_return Result<>();
  auto judged = co_await proof_.judge(alternate, binding_->size, binding_->identity, found);
  if (judged) {
    place.accepted = found;
    co_return Result<>();
  }
  Error error{judged.error().code,
              fmt::format("alternate {}: {}", place.candidate.name, judged.error().message())};
  co_return fail(std::move(error));
}

Result<> OriginLink::compare(const Binding& found) {
  if (!binding_) binding_ = found;
  if (*binding_ == found) return {};
  const bool touched = binding_->size == found.size &&
                       without_time(binding_->identity) == without_time(found.identity);
  return fail(Errc::foreign,
              fmt::format("origin changed: {}: this clone belongs to {} ({} bytes), but found is "
                          "{} ({} bytes): {}",
                          name_, binding_->identity, binding_->size, found.identity, found.size,
                          touched ? kTouched : kMoved));
}

void OriginLink::publish(const std::shared_ptr<Origin>& origin) {
  current_ = origin;
  failed_.reset();
  verdict_.reset();
  down_since_.reset();
  lost_.reset();
  const std::string before = std::exchange(used_last_, candidates_.current().candidate.name);
  const bool other = used_last_ != (before.empty() ? name_ : before);
  if (candidates_.forget_said() || other) {
    log_line(LOG_NOTICE, "origin {}: {}{}", name_, other ? "reading from " : "connected again",
             other ? used_last_ : "");
  }
  news_.wake_all();
}

// An idle connection breaks without anybody reading from it, so it is looked at now and then.
Task<> OriginLink::watch_over(const Origin& origin) {
  while (!closing_ && current_.get() == &origin && origin.state() == Origin::State::connected) {
    const TimePoint next = now() + kLookAfter;
    co_await lost_.wait_until(next);
  }
}

void OriginLink::lose(const Origin& origin) {
  if (current_.get() != &origin) return;
  current_.reset();
  apart_since_ = now();
  if (!origin.last_error().empty()) last_error_ = origin.last_error();
  lost_.set();
}

void OriginLink::attempt_failed(const Error& error) {
  ++errors_;
  note(error);
  if (!failed_ || candidates_.at_origin()) failed_ = error;
  CandidateOrder::Place& place = candidates_.current();
  if (error.code == Errc::foreign && !candidates_.at_origin()) {
    place.barred = true;
    log_line(LOG_ERR, "{}: it is not used any more, until the LUN is opened again",
             error.message());
    return;
  }
  if (place.said != error.context) log_line(LOG_WARNING, "{}; trying again", error.message());
  place.said = error.context;
}

void OriginLink::all_failed() {
  away_ = true;
  verdict_ = std::exchange(failed_, {});
  if (!down_since_) down_since_ = now();
  news_.wake_all();
}

Duration OriginLink::next_pause() {
  const Duration base = pause_;
  pause_ = std::min(pause_ * 2, pace_.longest_pause);
  std::uniform_int_distribution<Duration::rep> spread(base.count() / 2, base.count());
  return Duration(spread(jitter_));
}

Task<Result<OriginBytes>> OriginLink::read(std::uint64_t offset, std::span<std::byte> room,
                                           TimePoint give_up) {
  const auto inside = gate_.enter();
  for (unsigned tries = 0;;) {
    auto origin = co_await connected_origin(give_up);
    if (!origin) co_return fail(origin.error());
    auto done = co_await (*origin)->read(offset, room);
    if (done) {
      away_ = false;
      bytes_read_ += room.size();
      pause_ = pace_.first_pause;
      co_return std::move(done);
    }
    Error error = done.error();
    auto again = co_await after_failure(**origin, std::move(error), tries, give_up);
    if (!again) co_return fail(again.error());
  }
}

Task<Result<std::vector<OriginExtent>>> OriginLink::extents(Extent range, TimePoint give_up) {
  const auto inside = gate_.enter();
  for (unsigned tries = 0;;) {
    auto origin = co_await connected_origin(give_up);
    if (!origin) co_return fail(origin.error());
    auto answer = co_await (*origin)->extents(range);
    if (answer) co_return std::move(answer);
    Error error = answer.error();
    auto again = co_await after_failure(**origin, std::move(error), tries, give_up);
    if (!again) co_return fail(again.error());
  }
}

// Success: try again. The pause after an error of the origin is cut short by close().
Task<Result<>> OriginLink::after_failure(const Origin& origin, Error error, unsigned& tries,
                                         TimePoint give_up) {
  ++errors_;
  if (closing_) co_return fail(Errc::closed, fmt::format("origin {}: closed", name_));
  note(error);
  if (error.code != Errc::origin_read) {
    lose(origin);
    co_return Result<>();
  }
  if (++tries >= kTries || now() >= give_up) co_return fail(std::move(error));
  const TimePoint next = std::min(give_up, now() + kRetryPauses[tries - 1]);
  co_await stop_.wait_until(next);
  co_return Result<>();
}

Task<Result<std::shared_ptr<Origin>>> OriginLink::connected_origin(TimePoint give_up) {
  const TimePoint began = now();
  while (!current_ && !closing_) {
    const TimePoint known = std::max(began, known_down_at());
    const TimePoint end =
        known == TimePoint::max() ? give_up : std::min(give_up, known + pace_.patience_when_down);
    if (now() >= end) {
      away_ = away_ || !believed_alive();
      co_return fail(busy());
    }
    co_await news_.wait_until(end);
  }
  if (closing_) co_return fail(Errc::closed, fmt::format("origin {}: closed", name_));
  co_return current_;
}

Task<bool> OriginLink::wait_until_connected(TimePoint deadline) {
  const auto inside = gate_.enter();
  while (!current_ && !closing_ && now() < deadline) co_await news_.wait_until(deadline);
  co_return current_ && !closing_;
}

TimePoint OriginLink::known_down_at() const {
  if (current_) return TimePoint::max();
  return down_since_.value_or(apart_since_ + pace_.known_down_after);
}

bool OriginLink::believed_alive() const {
  return !closing_ && (current_ != nullptr || now() < known_down_at());
}

bool OriginLink::known_lost() const { return away_ || !believed_alive(); }

Origin::State OriginLink::state() const {
  if (closing_) return Origin::State::closed;
  if (current_) return current_->state();
  return believed_alive() ? Origin::State::connecting : Origin::State::down;
}

Error OriginLink::busy() const {
  const std::string why =
      last_error_.empty() ? fmt::format("origin {}: no connection yet", name_) : last_error_;
  return {make_error_code(Errc::busy), why};
}

void OriginLink::note(const Error& error) { last_error_ = error.message(); }

Task<> OriginLink::close() {
  closing_ = true;
  stop_.set();
  lost_.set();
  news_.wake_all();
  if (const std::shared_ptr<Origin> origin = attempt_) co_await origin->close();
  current_.reset();
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
