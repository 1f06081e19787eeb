#include "sharing/origin_share.h"

#include <algorithm>
#include <random>

#include "origin/content_proof.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLookAfter(500);
// Longer than any round trip; what takes longer may never come.
constexpr milliseconds kJoinedFor(2000);
// Who wants a smaller part of what was read than this gets a copy, lest a few bytes keep it all.
constexpr std::size_t kSmallPart = 4;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kMostSpare = std::size_t{16} << 20;

Error no_memory() { return {make_error_code(Errc::unavailable), "no memory to read into"}; }

}  // namespace

struct OriginShare::Flight {
  Flight(Extent what, Scheduler::TimePoint when) : extent(what), begun(when) {}

  const Extent extent;
  const Scheduler::TimePoint begun;
  Result<OriginBytes> outcome;
  Event done;
};

OriginShare::OriginShare(std::unique_ptr<Origin> origin, Scheduler::Duration timeout,
                         Gate::Holder inside)
    : origin_(std::move(origin)),
      timeout_(timeout),
      pages_(SparePages::create(kMostSpare)),
      begun_(Scheduler::current().now()),
      inside_(std::move(inside)) {}

OriginShare::~OriginShare() { assert(closing_ && under_way_.idle() && "its members leave first"); }

bool OriginShare::just_begun() const {
  return !closing_ && !opened_ && Scheduler::current().now() < begun_ + kJoinedFor;
}

bool OriginShare::usable() const {
  return !closing_ && !given_up_ && opened_ && *opened_ &&
         origin_->state() == Origin::State::connected;
}

Task<bool> OriginShare::shows_what(OriginShare& fresh) {
  const auto inside = under_way_.enter();
  const auto inside_fresh = fresh.under_way_.enter();
  if (origin_->size() != fresh.origin_->size() || identity_ != fresh.identity_) co_return false;
  if (identity_.find(";samples=") == std::string::npos) co_return true;
  ContentProof proof(std::random_device{}());
  auto learned = co_await proof.learn(*fresh.origin_);
  if (!learned) co_return false;
  auto same = co_await proof.judge(*origin_, origin_->size(), fresh.identity_, identity_);
  co_return same.has_value();
}

void OriginShare::leave() {
  if (--members_ > 0) return;
  closing_ = true;
  stop_.set();
  auto self = shared_from_this();
  spawn(close_origin(std::move(self)));
}

Task<> OriginShare::close_origin([[maybe_unused]] std::shared_ptr<OriginShare> self) {
  co_await origin_->close();
  while (!under_way_.idle()) co_await under_way_.wait_for_change();
  pages_->close();
}

Task<Result<OriginShare::Opened>> OriginShare::open() {
  const auto inside = under_way_.enter();
  if (!opening_) spawn(open_origin());
  co_await open_done_.wait();
  if (!*opened_) co_return fail(opened_->error());
  co_return Opened{origin_->size(), identity_, news_};
}

Task<> OriginShare::open_origin() {
  const auto inside = under_way_.enter();
  opening_ = true;
  opened_ = co_await look();
  tell();
  open_done_.set();
  if (*opened_ && !closing_) spawn(watch());
}

Task<Result<>> OriginShare::look() {
  auto opened = co_await origin_->open();
  if (!opened) co_return opened;
  auto identity = co_await origin_->identity();
  if (!identity) co_return fail(identity.error());
  identity_ = std::move(*identity);
  co_return Result<>();
}

// A connection breaks without anybody reading from it.
Task<> OriginShare::watch() {
  const auto inside = under_way_.enter();
  Scheduler& scheduler = Scheduler::current();
  while (usable() && !answers_.leaves_one_alone(scheduler.now(), timeout_)) {
    if (flights_.empty()) pages_->trim();
    const auto next = scheduler.now() + kLookAfter;
    co_await stop_.wait_until(next);
  }
  if (usable()) {
    given_up_ = true;
    co_await origin_->close();
  }
  tell();
}

void OriginShare::tell() {
  if (given_up_) {
    news_->tell(Origin::State::down, "a request was left without an answer");
  } else {
    news_->tell(origin_->state(), origin_->last_error());
  }
}

Task<Result<std::vector<OriginExtent>>> OriginShare::extents(Extent range) {
  const auto inside = under_way_.enter();
  const auto asked = answers_.ask(Scheduler::current().now());
  auto found = co_await origin_->extents(range);
  answers_.end(asked, found.has_value());
  if (!found) tell();
  co_return found;
}

Task<Result<OriginBytes>> OriginShare::read(Extent wanted, Scheduler::TimePoint since) {
  const auto inside = under_way_.enter();
  std::shared_ptr<Flight> flight = find(wanted, since);
  const bool joined = flight != nullptr;
  if (!joined) flight = begin(wanted);
  co_await flight->done.wait();
  if (!flight->outcome && joined && flight->outcome.error().code == Errc::origin_read &&
      flight->extent != wanted) {
    flight = begin(wanted);
    co_await flight->done.wait();
  }
  if (!flight->outcome) co_return fail(flight->outcome.error());
  co_return part_of(*flight->outcome, wanted.offset - flight->extent.offset, wanted.length);
}

Result<OriginBytes> OriginShare::part_of(const OriginBytes& whole, std::size_t at,
                                         std::size_t length) {
  const std::span<const std::byte> part = whole.bytes.subspan(at, length);
  const bool aligned = at % kPage == 0;
  if (aligned && length >= whole.bytes.size() / kSmallPart) return OriginBytes{part, whole.memory};
  const SparePages::Pages pages = pages_->take(length);
  if (!pages) return fail(no_memory());
  std::ranges::copy(part, pages.get());
  return OriginBytes{{pages.get(), length}, pages};
}

std::shared_ptr<OriginShare::Flight> OriginShare::find(Extent extent,
                                                       Scheduler::TimePoint since) const {
  const auto oldest = std::max(since, Scheduler::current().now() - kJoinedFor);
  const auto covers = [&](const std::shared_ptr<Flight>& flight) {
    return flight->begun >= oldest && flight->extent.offset <= extent.offset &&
           flight->extent.end() >= extent.end();
  };
  const auto it = std::ranges::find_if(flights_, covers);
  return it == flights_.end() ? nullptr : *it;
}

std::shared_ptr<OriginShare::Flight> OriginShare::begin(Extent extent) {
  auto flight = std::make_shared<Flight>(extent, Scheduler::current().now());
  flights_.push_back(flight);
  auto self = shared_from_this();
  auto flown = flight;
  spawn(fly(std::move(self), std::move(flown)));
  return flight;
}

Task<> OriginShare::fly([[maybe_unused]] std::shared_ptr<OriginShare> self,
                        std::shared_ptr<Flight> flight) {
  const auto inside = under_way_.enter();
  if (const SparePages::Pages pages = pages_->take(flight->extent.length)) {
    const auto asked = answers_.ask(flight->begun);
    const std::span<std::byte> room(pages.get(), flight->extent.length);
    flight->outcome = co_await origin_->read(flight->extent.offset, room);
    answers_.end(asked, flight->outcome || flight->outcome.error().code == Errc::origin_read);
    if (flight->outcome && !flight->outcome->memory) flight->outcome->memory = pages;
  } else {
    flight->outcome = fail(no_memory());
  }
  if (!flight->outcome) tell();
  flights_.remove(flight);
  flight->done.set();
}

}  // namespace clonedev
