#include "metadata/metadata_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <utility>

namespace clonedev {

Error live_map_full() {
  return {make_error_code(Errc::live_map_full), "the live map's tmpfs is full: make it larger"};
}

MetadataStore::MetadataStore(BlockDevice& device, Superblock superblock, Parts parts)
    : device_(device),
      superblock_(std::move(superblock)),
      live_(std::move(parts.live)),
      durable_(std::move(parts.durable)),
      table_(std::move(parts.table)),
      map_(Geometry(superblock_.size_bytes, superblock_.region_size), *live_) {
  if (superblock_.needs_check) {
    failure_ = Error{make_error_code(Errc::needs_check), superblock_.reason};
  }
}

// Data without their state would be lost: better that the daemon dies, which loses nothing.
void MetadataStore::set(const StateRoom&, BlockRange blocks, BlockState state, Cause cause) {
  if (!set(blocks, state, cause)) std::abort();
}

bool MetadataStore::set(BlockRange blocks, BlockState state, Cause cause) {
  const BlockRange pages = StateMap::pages_of(blocks);
  for (std::size_t page = pages.first; page < pages.end(); ++page) {
    const std::uint64_t base = page * StatePages::kBlocksPerPage;
    const std::uint64_t first = std::max(blocks.first, base);
    const std::uint64_t end = std::min(blocks.end(), base + StatePages::kBlocksPerPage);
    if (!map_.all({first, end - first}, state)) durable_.keep(page);
  }
  if (!map_.set(blocks, state)) {
    for (std::size_t page = pages.first; page < pages.end(); ++page) durable_.drop_if_same(page);
    return false;
  }
  if (cause == Cause::written) durable_.mark_written(blocks, state);
  return true;
}

void MetadataStore::forget_copied(BlockRange blocks) {
  BlockRange run = map_.find(blocks, BlockState::copied);
  while (!run.empty()) {
    if (!set(run, BlockState::destination, Cause::copied)) forget_copied_pages(run);
    run = map_.find({run.end(), blocks.end() - run.end()}, BlockState::copied);
  }
}

// A run of copied blocks for which there is no memory: that is missing on pages that are copied as
// a whole, and a whole page needs none.
void MetadataStore::forget_copied_pages(BlockRange run) {
  const BlockRange pages = StateMap::pages_of(run);
  for (std::size_t page = pages.first; page < pages.end(); ++page) {
    const std::uint64_t base = page * StatePages::kBlocksPerPage;
    const BlockRange whole{base, blocks_in_page(map_.geometry(), page)};
    const std::uint64_t first = std::max(run.first, base);
    const BlockRange part{first, std::min(run.end(), whole.end()) - first};
    const bool uniform = map_.all(whole, BlockState::copied);
    const bool changed = set(uniform ? whole : part, BlockState::destination, Cause::copied);
    assert(changed && "a page that is uniform afterwards, or has its words, needs no memory");
    (void)changed;
  }
}

Task<Result<>> MetadataStore::commit(BlockDevice& destination) {
  if (failure_) co_return refuse();
  std::vector<FrozenPage> frozen = durable_.freeze();
  // Tasks are eager: the flush is under way from here on, and what was frozen is older.
  Task<Result<>> flush = destination.flush();
  PageTable::Step step = table_.plan(frozen);
  auto written = co_await write_pages(step);
  auto flushed = co_await flush;
  if (!flushed || !written) table_.abandon(step);
  if (!flushed) co_return give_up(flushed.error());
  if (!written) co_return give_up(written.error());
  std::span<FrozenPage> rest(frozen);
  while (!rest.empty()) {
    if (step.pages == 0) {
      co_return give_up(Error{make_error_code(Errc::no_space),
                              "metadata: no unit is free for a commit: its table is damaged"});
    }
    const std::span<FrozenPage> now = rest.first(step.pages);
    if (auto outcome = co_await publish(step, now); !outcome) co_return give_up(outcome.error());
    rest = rest.subspan(now.size());
    if (rest.empty()) break;
    step = table_.plan(rest);
    written = co_await write_pages(step);
    if (!written) {
      table_.abandon(step);
      co_return give_up(written.error());
    }
  }
  live_->reclaim();
  co_return Result<>{};
}

Task<Result<>> MetadataStore::write_pages(const PageTable::Step& step) {
  if (step.writes.empty()) co_return Result<>{};
  if (auto outcome = co_await write_units(device_, step.writes); !outcome) co_return outcome;
  co_return co_await flush_units(device_);
}

Task<Result<>> MetadataStore::publish(const PageTable::Step& step, std::span<FrozenPage> frozen) {
  Superblock next = superblock_;
  next.roots = step.roots;
  auto outcome = co_await put_superblock(std::move(next));
  if (!outcome) {
    table_.abandon(step);
    co_return outcome;
  }
  table_.apply(step);
  durable_.settle(frozen);
  ++commits_;
  co_return outcome;
}

// It always goes to the slot that does not hold the durable one; a failed attempt is overwritten
// by the next one.
Task<Result<>> MetadataStore::put_superblock(Superblock next) {
  next.sequence = superblock_.sequence + 1;
  auto outcome = co_await write_superblock(device_, next);
  if (!outcome) co_return outcome;
  superblock_ = std::move(next);
  co_return outcome;
}

tl::unexpected<Error> MetadataStore::give_up(const Error& error) {
  if (!failure_) failure_ = error;
  durable_.thaw();
  return fail(error);
}

tl::unexpected<Error> MetadataStore::refuse() const {
  return fail(Errc::needs_check,
              fmt::format("{}: nothing is made durable any more since an earlier failure: {}: see "
                          "to the cause, then clear_needs_check",
                          superblock_.name, failure_->message()));
}

Task<Result<>> MetadataStore::set_needs_check(std::string reason) {
  if (!failure_) failure_ = Error{make_error_code(Errc::needs_check), reason};
  live_->set_needs_check(true);
  Superblock next = superblock_;
  next.needs_check = true;
  next.reason = std::move(reason);
  co_return co_await put_superblock(std::move(next));
}

// The superblock goes over whatever a failed commit may have left in that slot; only then may the
// units of that commit be used again.
Task<Result<>> MetadataStore::clear_needs_check() {
  Superblock next = superblock_;
  next.needs_check = false;
  next.reason.clear();
  auto outcome = co_await put_superblock(std::move(next));
  if (!outcome) co_return outcome;
  live_->set_needs_check(false);
  failure_.reset();
  co_return outcome;
}

Task<Result<>> MetadataStore::set_complete() {
  if (failure_) co_return refuse();
  const BlockCounts counts = map_.counts();
  if (dirty() || counts.destination != map_.geometry().blocks() || counts.copied > 0) {
    co_return fail(Errc::refused, fmt::format("{}: not complete: some blocks are not durably on "
                                              "the destination",
                                              superblock_.name));
  }
  Superblock next = superblock_;
  next.complete = true;
  auto outcome = co_await put_superblock(std::move(next));
  if (!outcome) co_return give_up(outcome.error());
  co_return outcome;
}

Task<Result<>> MetadataStore::detach() {
  if (failure_) co_return refuse();
  if (dirty()) {
    co_return fail(Errc::refused,
                   fmt::format("{}: not detached: some states are not durable", superblock_.name));
  }
  for (std::uint64_t slot = 0; slot < kSuperblockSlots; ++slot) {
    Superblock next = superblock_;
    next.clean = true;
    next.attach_id = next.boot_id = next.machine_id = Id{};
    auto outcome = co_await put_superblock(std::move(next));
    if (!outcome) co_return give_up(outcome.error());
  }
  live_->remove();
  failure_ = Error{make_error_code(Errc::closed), "the metadata are detached"};
  co_return Result<>{};
}

}  // namespace clonedev
