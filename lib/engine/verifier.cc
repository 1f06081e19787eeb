#include "engine/verifier.h"

#include <algorithm>
#include <cstring>

#include "engine/aligned_bytes.h"
#include "io/iovecs.h"

namespace clonedev {
namespace {

using std::chrono::seconds;

constexpr std::size_t kExtentsAtATime = 4;
constexpr std::uint64_t kExtent = std::uint64_t{1} << 20;
constexpr auto kOriginPatience = seconds(30);
constexpr auto kLookForOriginAgain = seconds(1);
constexpr auto kLongestRest = std::chrono::milliseconds(100);
constexpr auto kNobodyAsks = seconds(60);

}  // namespace

Result<> Verifier::start() {
  if (!gate_.idle()) {
    return fail(Errc::refused, "verify: it is being verified already: wait for that, or stop it");
  }
  found_ = {};
  found_.state = Verification::State::running;
  found_.size_bytes = parts_.map.geometry().size_bytes();
  cursor_ = 0;
  ending_ = failed_ = false;
  why_.clear();
  asked_ = parts_.scheduler.now();
  spawn(run());
  return {};
}

const Verification& Verifier::look() {
  asked_ = parts_.scheduler.now();
  return found_;
}

void Verifier::cancel(const std::string& reason) {
  if (gate_.idle() || ending_) return;
  ending_ = true;
  why_ = reason;
}

Task<> Verifier::stop(std::string reason) {
  cancel(reason);
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

Task<> Verifier::run() {
  const Gate::Holder holder = gate_.enter();
  std::deque<Task<Finding>> checks;  // Awaited in order, so that ranges are found in order.
  while (true) {
    const BlockRange next = ending_ ? BlockRange{} : next_extent();
    if (!next.empty()) {
      cursor_ = next.end();
      co_await wait_for_turn(parts_.map.geometry().bytes(next).length);
      checks.push_back(check(next));
      if (checks.size() < window()) continue;
    }
    if (checks.empty()) break;
    const auto begun = parts_.scheduler.now();
    Task<Finding> oldest = std::move(checks.front());
    checks.pop_front();
    Finding finding = co_await std::move(oldest);
    take(std::move(finding));
    const auto now = parts_.scheduler.now();
    if (now - asked_ > kNobodyAsks) cancel("nobody asked for its result any more");
    if (parts_.busy() && !ending_) {
      const auto pause = std::min<Scheduler::Duration>(now - begun, kLongestRest);
      co_await parts_.scheduler.sleep_for(pause);
    }
  }
  conclude();
}

BlockRange Verifier::next_extent() const {
  const std::uint64_t end = parts_.map.geometry().blocks();
  BlockRange copied = parts_.map.find({cursor_, end - cursor_}, BlockState::copied);
  copied.count = std::min(copied.count, kExtent / kBlockSize);
  return copied;
}

Task<> Verifier::wait_for_turn(std::uint64_t bytes) {
  Scheduler& scheduler = parts_.scheduler;
  while (!ending_ && scheduler.now() < parts_.limit.ready_at()) {
    const auto look_again = std::min(parts_.limit.ready_at(), scheduler.now() + kLongestRest);
    co_await scheduler.sleep_until(look_again);
  }
  parts_.limit.take(bytes, scheduler.now());
}

std::size_t Verifier::window() const { return parts_.busy() ? 1 : kExtentsAtATime; }

Task<Verifier::Finding> Verifier::check(BlockRange blocks) {
  Finding finding;
  finding.blocks = blocks;
  const Extent extent = parts_.map.geometry().bytes(blocks);
  auto fetched = co_await fetch(extent);
  if (!fetched && fetched.error().code == Errc::origin_read && blocks.count > 1) {
    co_return co_await check_halves(blocks);
  }
  if (!fetched) {
    finding.error = fetched.error();
    finding.unreadable = extent.length;
    finding.fatal = finding.error.code != Errc::origin_read;
    co_return finding;
  }
  const AlignedBytes present(extent.length);
  const iovec bytes = to_iovec(present.span());
  const std::span<const iovec> list(&bytes, 1);
  auto read = co_await parts_.destination.read(extent.offset, list);
  if (read) {
    compare(blocks, (*fetched)->bytes(extent), present.span(), finding);
  } else {
    finding.error = read.error();
    finding.unreadable = extent.length;
  }
  co_return finding;
}

// Isolates what the origin cannot read.
Task<Verifier::Finding> Verifier::check_halves(BlockRange blocks) {
  const std::uint64_t half = blocks.count / 2;
  Finding first = co_await check({blocks.first, half});
  if (ending_ || first.fatal) co_return first;
  Finding second = co_await check({blocks.first + half, blocks.count - half});
  merge(first, std::move(second));
  co_return first;
}

// Waits for an origin that is away, though not for ever.
Task<Result<Fetcher::Shared>> Verifier::fetch(Extent extent) {
  const auto give_up = parts_.scheduler.now() + kOriginPatience;
  while (true) {
    auto fetched = co_await parts_.fetcher.get(extent, BufferPool::Use::background, give_up);
    const bool away = !fetched && fetched.error().code == Errc::busy;
    const auto now = parts_.scheduler.now();
    if (!away || ending_ || now >= give_up) co_return fetched;
    const auto look_again = std::min(now + kLookForOriginAgain, give_up);
    co_await parts_.origin->wait_until_connected(look_again);
  }
}

void Verifier::compare(BlockRange blocks, std::span<const std::byte> origin,
                       std::span<const std::byte> destination, Finding& finding) const {
  const Geometry& geometry = parts_.map.geometry();
  for (std::uint64_t block = blocks.first; block < blocks.end(); ++block) {
    if (parts_.map.at(block) != BlockState::copied) continue;
    const Extent bytes = geometry.bytes({block, 1});
    const std::size_t at = (block - blocks.first) * kBlockSize;
    if (std::memcmp(&origin[at], &destination[at], bytes.length) == 0) {
      finding.verified += bytes.length;
    } else {
      add_mismatch(finding.mismatches, bytes);
    }
  }
}

void Verifier::add_mismatch(std::vector<Extent>& mismatches, Extent extent) {
  if (!mismatches.empty() && mismatches.back().end() == extent.offset) {
    mismatches.back().length += extent.length;
  } else {
    mismatches.push_back(extent);
  }
}

void Verifier::merge(Finding& into, Finding&& more) {
  into.blocks.count = more.blocks.end() - into.blocks.first;
  into.verified += more.verified;
  into.unreadable += more.unreadable;
  for (const Extent& one : more.mismatches) add_mismatch(into.mismatches, one);
  if (more.error.code) into.error = std::move(more.error);
  into.fatal = into.fatal || more.fatal;
}

void Verifier::take(Finding&& finding) {
  found_.done_bytes = parts_.map.geometry().bytes({0, finding.blocks.end()}).length;
  found_.verified_bytes += finding.verified;
  found_.unreadable_bytes += finding.unreadable;
  for (const Extent& one : finding.mismatches) {
    parts_.on_mismatch(one);
    found_.mismatch_bytes += one.length;
    const bool joins = !found_.mismatches.empty() && found_.mismatches.back().end() == one.offset;
    found_.mismatch_ranges += !joins;
    if (joins || found_.mismatches.size() < Verification::kMostRanges) {
      add_mismatch(found_.mismatches, one);
    }
  }
  if (!finding.error.code) return;
  failed_ = true;
  found_.last_error = finding.error.message();
  if (finding.fatal) ending_ = true;
}

void Verifier::conclude() {
  if (!ending_) found_.done_bytes = found_.size_bytes;
  if (!why_.empty()) found_.last_error = "it was stopped: " + why_;
  using State = Verification::State;
  found_.state = found_.mismatch_ranges > 0 ? State::different
                 : failed_                  ? State::failed
                 : ending_                  ? State::stopped
                                            : State::equal;
}

}  // namespace clonedev
