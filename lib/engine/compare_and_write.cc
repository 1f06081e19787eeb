#include "engine/compare_and_write.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/io_plan.h"
#include "engine/aligned_bytes.h"
#include "io/iovecs.h"

namespace clonedev {
namespace {

// The kernel's cmd_time_out: nothing older is executed again after a restart of the daemon.
constexpr auto kReplayTime = std::chrono::seconds(30);

}  // namespace

CompareAndWrite::CompareAndWrite(Parts parts)
    : parts_(parts), replay_until_(parts.scheduler.now() + kReplayTime) {}

void CompareAndWrite::answered(const void* who) {
  const auto it = unanswered_.find(who);
  if (it == unanswered_.end()) return;
  parts_.metadata.forget_caw(it->second);
  unanswered_.erase(it);
}

void CompareAndWrite::forget_earlier() {
  if (parts_.scheduler.now() >= replay_until_) parts_.metadata.forget_earlier_caws();
}

Task<Result<>> CompareAndWrite::run(Extent extent, std::span<const iovec> data, const void* who,
                                    Scheduler::TimePoint deadline) {
  const Extent aligned = geometry().aligned(extent);
  AlignedBytes content(aligned.length);
  const iovec whole = to_iovec(content.span());
  const std::span<const iovec> list(&whole, 1);
  const BlockRange blocks = geometry().touched(extent);
  if (!parts_.metadata.map().find(blocks, BlockState::origin).empty()) {
    auto fetched =
        co_await parts_.fetcher.read(aligned, aligned, list, Fetcher::Purpose::other, deadline);
    if (!fetched) co_return fetched;
  }
  const InFlight::Entry claim = co_await parts_.in_flight.acquire(aligned);
  auto loaded = co_await load_present(aligned, content.span());
  if (!loaded) co_return loaded;

  std::vector<std::byte> both(2 * extent.length);
  iov_copy_out(data, both);
  const std::span<const std::byte> all(both);
  const std::span<const std::byte> expected = all.first(extent.length);
  const std::span<const std::byte> wanted = all.subspan(extent.length);
  const std::span<std::byte> place =
      content.span().subspan(extent.offset - aligned.offset, extent.length);
  const Hashes hashes{XXH3_64bits(expected.data(), expected.size()),
                      XXH3_64bits(wanted.data(), wanted.size())};
  const auto differ = std::ranges::mismatch(place, expected);
  if (differ.in1 != place.end()) {
    if (std::ranges::equal(place, wanted) && done_by_the_last_process(extent.offset, hashes, who)) {
      co_return Result<>{};
    }
    Error error{make_error_code(Errc::miscompare), "the data differ"};
    error.detail = static_cast<std::uint64_t>(differ.in1 - place.begin());
    co_return fail(std::move(error));
  }
  parts_.metadata.forget_copied(blocks);
  const auto room = parts_.writer.room_for(blocks);
  if (!room) co_return fail(room.error());
  // Remembered before it can land: a kill in between must not lose the knowledge of a success.
  const auto serial = parts_.metadata.remember_caw(extent.offset, hashes.expected, hashes.wanted);
  if (who) unanswered_[who] = serial;
  std::ranges::copy(wanted, place.begin());
  auto written = co_await parts_.destination.write(aligned.offset, list);
  if (written) parts_.writer.mark_written(*room, blocks);
  co_return written;
}

// Executed once already, before the daemon died: it had succeeded, so it succeeds.
bool CompareAndWrite::done_by_the_last_process(std::uint64_t offset, const Hashes& hashes,
                                               const void* who) {
  if (parts_.scheduler.now() >= replay_until_) return false;
  const auto serial = parts_.metadata.caw_done_before(offset, hashes.expected, hashes.wanted);
  if (serial != 0 && who) unanswered_[who] = serial;
  return serial != 0;
}

// Under the claim: what is no longer the origin's replaces what was fetched before.
Task<Result<>> CompareAndWrite::load_present(Extent aligned, std::span<std::byte> content) {
  const std::vector<ReadStep> steps = plan_read(parts_.metadata.map(), aligned);
  for (const ReadStep& step : steps) {
    const std::span<std::byte> part =
        content.subspan(step.extent.offset - aligned.offset, step.extent.length);
    if (step.source == BlockState::zero) {
      std::memset(part.data(), 0, part.size());
    } else if (step.source == BlockState::destination) {
      const iovec bytes = to_iovec(part);
      const std::span<const iovec> list(&bytes, 1);
      auto read = co_await parts_.destination.read(step.extent.offset, list);
      if (!read) co_return read;
    }
  }
  co_return Result<>{};
}

}  // namespace clonedev
