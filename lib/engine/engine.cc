#include "engine/engine.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "core/log.h"
#include "io/iovecs.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

constexpr auto kCommitPeriod = std::chrono::seconds(1);
constexpr auto kFirstWord = std::chrono::seconds(5);  // Of a close that has to wait.
constexpr auto kNextWord = std::chrono::seconds(60);

alignas(4096) constinit std::byte zero_block[kBlockSize] = {};

std::vector<iovec> zeroes(std::uint64_t length) {
  std::vector<iovec> list;
  for (; length > 0; length -= list.back().iov_len) {
    list.push_back({zero_block, static_cast<std::size_t>(std::min(length, kBlockSize))});
  }
  return list;
}

Error opened_read_only() {
  return {make_error_code(Errc::refused),
          "write-protected, since it was opened with needs_check: see to the cause, then "
          "`clonectl message NAME clear_needs_check`"};
}

Hydrator::Tuning tuning_of(const Options& options) {
  Hydrator::Tuning tuning;
  tuning.enabled = options.hydration;
  tuning.threshold = options.hydration_threshold;
  tuning.batch_size = options.hydration_batch_size;
  tuning.rate_limit = options.rate_limit;
  tuning.min_rate = options.min_rate;
  tuning.deallocate = options.discard_passdown;
  return tuning;
}

}  // namespace

Engine::Engine(Parts parts, const Options& options)
    : parts_(parts),
      geometry_(parts.metadata.map().geometry()),
      write_cache_(options.write_cache),
      discard_passdown_(options.discard_passdown),
      origin_timeout_(options.origin_timeout_ms),
      on_origin_loss_(options.on_origin_loss),
      committer_(parts.metadata, parts.destination, [this](const Error& e) { failed(e); }),
      fetcher_(parts.origin_pool, parts.origin,
               [this](const Fetcher::Shared& fetched) { copy_on_read_.offer(fetched); }),
      writer_({parts.destination, parts.metadata, in_flight_, fetcher_}),
      compare_and_write_(
          {parts.scheduler, parts.destination, parts.metadata, in_flight_, fetcher_, writer_}),
      copier_({parts.destination, parts.metadata, in_flight_}),
      hydrator_({parts.scheduler, parts.destination, parts.metadata, in_flight_, fetcher_, copier_,
                 parts.origin, rate_limit_, parts.origin_pool.background_share(),
                 [this] { return commands_.use(); }},
                [this] { tick_soon_.set(); }),
      copy_on_read_({parts.origin_pool, parts.metadata.map(), copier_, hydrator_}),
      verifier_({parts.scheduler, parts.destination, parts.metadata.map(), fetcher_, parts.origin,
                 rate_limit_, [this] { return commands_.use() >= Commands::kLoad; },
                 [this](Extent extent) { mismatched(extent); }}),
      growth_({parts.destination, parts.metadata, in_flight_, fetcher_, committer_}),
      complete_(parts.metadata.superblock().complete),
      plain_(complete_),
      read_only_(parts.metadata.superblock().needs_check),
      configured_read_only_(options.read_only) {
  hydrator_.tune(tuning_of(options));
  copy_on_read_.enable(options.copy_on_read);
  const Superblock& superblock = parts.metadata.superblock();
  if (superblock.needs_check) {
    committer_.fail_from_now_on({make_error_code(Errc::needs_check), superblock.reason});
  }
}

void Engine::start() {
  if (!complete_) hydrator_.start();
  spawn(tick());
}

Task<Result<>> Engine::stop() {
  Task<> saying = say_what_stop_waits_for();
  auto outcome = co_await stop_now();
  stopped_.set();
  co_await std::move(saying);
  co_return outcome;
}

Task<> Engine::say_what_stop_waits_for() {
  for (auto pause = kFirstWord;; pause = kNextWord) {
    const auto until = parts_.scheduler.now() + pause;
    const bool stopped = co_await stopped_.wait_until(until);
    if (stopped) co_return;
    log_line(LOG_WARNING,
             "closing waits for the destination or the metadata device, which do not answer; "
             "{} commands are under way",
             commands_.count());
  }
}

Task<Result<>> Engine::stop_now() {
  stopping_.set();
  tick_soon_.set();
  // The hydrator learns of it before its origin goes, and ends when its reads have.
  Task<> hydration = hydrator_.stop();
  copy_on_read_.end();
  Task<> verification = verifier_.stop("the LUN was closed");
  if (parts_.origin) co_await parts_.origin->close();
  co_await std::move(hydration);
  co_await std::move(verification);
  while (!background_.idle()) co_await background_.wait_for_change();
  co_await commands_.idle();
  co_await fetcher_.idle();
  co_await copy_on_read_.idle();
  auto committed = co_await committer_.commit();
  if (!committed) co_return committed;
  co_return co_await parts_.metadata.detach();
}

// Once a second: commit what changed, look whether the clone is complete, forget what nobody will
// ask again.
Task<> Engine::tick() {
  const Gate::Holder holder = background_.enter();
  while (!stopping_.is_set()) {
    tick_soon_.reset();
    const auto next = parts_.scheduler.now() + kCommitPeriod;
    co_await tick_soon_.wait_until(next);
    if (stopping_.is_set()) break;
    if (parts_.metadata.dirty() && committer_.failure()) co_await committer_.commit();
    hydrator_.nudge();
    compare_and_write_.forget_earlier();
    if (!complete_ && committer_.failure() && all_on_destination()) co_await finish();
  }
}

std::size_t Engine::provisioning(Extent extent, std::span<ProvisionedRun> runs) const {
  const StateMap& map = parts_.metadata.map();
  std::size_t found = 0;
  BlockRange rest = geometry_.touched(extent);
  while (!rest.empty()) {
    const StateRun run = map.run(rest);
    const bool deallocated = run.state == BlockState::zero;
    const Extent part = intersect(geometry_.bytes(run.blocks), extent);
    if (found > 0 && runs[found - 1].deallocated == deallocated) {
      runs[found - 1].extent.length += part.length;
    } else {
      if (found == runs.size()) break;
      runs[found++] = {part, deallocated};
    }
    rest = {run.blocks.end(), rest.end() - run.blocks.end()};
  }
  return found;
}

bool Engine::all_on_destination() const {
  return parts_.metadata.map().counts().destination == geometry_.blocks();
}

// From here on zeroing goes to the device, so no block ever leaves `destination` again.
Task<> Engine::finish() {
  const InFlight::Entry turn = co_await turns_.acquire({0, 1});
  if (!all_on_destination()) co_return;  // It has grown meanwhile.
  plain_ = true;
  // The origin goes, and with it what `copied` could be compared with; uniform metadata are tiny.
  const BlockRange all{0, geometry_.blocks()};
  const bool uniform = parts_.metadata.set(all, BlockState::destination, Cause::copied);
  assert(uniform && "whole pages need no memory");
  (void)uniform;
  auto completed = co_await committer_.complete();
  if (!completed) co_return;
  complete_ = true;
  log_line(LOG_NOTICE, "hydration is complete: the destination is a plain image");
  co_await hydrator_.stop();
  Task<> verification = verifier_.stop("the copy was completed, and with it the origin is closed");
  co_await std::move(verification);
  // Commands that began before the last copy landed may still be reading it.
  copy_on_read_.end();
  co_await fetcher_.idle();
  co_await copy_on_read_.idle();
  if (parts_.origin) co_await parts_.origin->close();
  parts_.origin_pool.trim();
}

Task<Result<>> Engine::grow(std::uint64_t size_bytes) {
  const Gate::Holder holder = background_.enter();
  const InFlight::Entry turn = co_await turns_.acquire({0, 1});
  if (auto possible = judge_growth(size_bytes); !possible) co_return possible;
  if (size_bytes == geometry_.size_bytes()) co_return Result<>{};
  const bool short_block = geometry_.size_bytes() % kBlockSize != 0;
  const auto deadline = give_up();
  auto grown = co_await growth_.run(size_bytes, deadline, discard_passdown_);
  if (grown) plain_ = complete_;  // A completion that has failed so far is not one any more.
  hydrator_.nudge();
  if (grown && short_block) co_await commands_.turn_over();
  co_return grown;
}

Result<> Engine::judge_growth(std::uint64_t size_bytes) const {
  if (read_only_) return fail(opened_read_only());
  return growth_.judge(size_bytes);
}

Result<> Engine::may_write() const {
  if (read_only_) return fail(opened_read_only());
  if (!configured_read_only_) return {};
  return fail(Errc::refused, "write-protected: its configuration says ro=on");
}

// The link answers sooner when the origin is known to be away.
Scheduler::TimePoint Engine::give_up() const { return parts_.scheduler.now() + origin_timeout_; }

// ---- READ ----

Task<Result<>> Engine::read(Extent extent, std::span<const iovec> data) {
  const Commands::Command command = commands_.enter();
  const std::vector<ReadStep> steps = plan_read(parts_.metadata.map(), extent);
  std::vector<Task<Result<>>> reads;
  reads.reserve(steps.size());
  for (const ReadStep& step : steps) {
    std::vector<iovec> part =
        iov_slice(data, step.extent.offset - extent.offset, step.extent.length);
    reads.push_back(read_step(step, std::move(part)));
  }
  Result<> outcome;
  for (Task<Result<>>& read : reads) {
    auto got = co_await std::move(read);
    if (!got && outcome) outcome = std::move(got);
  }
  co_return counted(std::move(outcome));
}

Task<Result<>> Engine::read_step(ReadStep step, std::vector<iovec> data) {
  switch (step.source) {
    case BlockState::origin: {
      const auto deadline = give_up();
      hydrator_.missed(step.extent);
      const Extent blocks = geometry_.aligned(step.extent);
      co_return co_await fetcher_.read(step.extent, blocks, data, Fetcher::Purpose::user_data,
                                       deadline);
    }
    case BlockState::zero:
      iov_zero(data);
      co_return Result<>{};
    case BlockState::destination:
    case BlockState::copied:
      break;
  }
  co_return co_await read_destination(step.extent, std::move(data));
}

// Where the sectors are 4 KiB the sectors around are read with it.
Task<Result<>> Engine::read_destination(Extent extent, std::vector<iovec> data) {
  const std::uint32_t sector = parts_.destination.sector_size();
  if (extent.offset % sector == 0 && extent.length % sector == 0) {
    co_return co_await parts_.destination.read(extent.offset, data);
  }
  const Extent aligned = geometry_.aligned(extent);
  AlignedBytes content(aligned.length);
  const iovec whole = to_iovec(content.span());
  const std::span<const iovec> list(&whole, 1);
  auto read = co_await parts_.destination.read(aligned.offset, list);
  if (read)
    iov_copy_in(content.span().subspan(extent.offset - aligned.offset, extent.length), data);
  co_return read;
}

// ---- WRITE ----

Task<Result<>> Engine::write(Extent extent, std::span<const iovec> data, bool fua) {
  const Commands::Command command = commands_.enter();
  if (auto allowed = may_write(); !allowed) co_return allowed;
  EdgeBlocks edges;
  const auto deadline = give_up();
  auto outcome = co_await writer_.load_edges(extent, edges, deadline);
  if (outcome) outcome = co_await writer_.write(extent, data, edges);
  co_return co_await settle(std::move(outcome), fua);
}

// What was acknowledged is durable at once with FUA, and always without a write cache.
Task<Result<>> Engine::settle(Result<> outcome, bool fua) {
  if (outcome && (fua || !write_cache_)) outcome = co_await committer_.flush();
  co_return counted(std::move(outcome));
}

Task<Result<>> Engine::flush() {
  const Commands::Command command = commands_.enter();
  auto outcome = co_await committer_.flush();
  co_return outcome;
}

// ---- zeroing and discard ----

Task<Result<>> Engine::zero(Extent extent, Zeroing how, bool fua) {
  const Commands::Command command = commands_.enter();
  if (auto allowed = may_write(); !allowed) co_return allowed;
  const ZeroPlan plan = plan_zero(geometry_, extent);
  const std::vector<iovec> head_data = zeroes(plan.head.length);
  const std::vector<iovec> tail_data = zeroes(plan.tail.length);
  EdgeBlocks head;
  EdgeBlocks tail;
  // BUSY means that nothing happened, so everything that may be missing is brought first.
  const auto deadline = give_up();
  Task<Result<>> tail_load = writer_.load_edges(plan.tail, tail, deadline);
  auto outcome = co_await writer_.load_edges(plan.head, head, deadline);
  auto tail_loaded = co_await std::move(tail_load);
  if (outcome) outcome = std::move(tail_loaded);
  // So does TASK SET FULL.
  const bool in_parts = !plan.blocks.empty() && !(plan.head.empty() && plan.tail.empty());
  const BlockRange set_in_parts = in_parts && !plain_ ? geometry_.touched(extent) : BlockRange{};
  const auto room = parts_.metadata.make_room(set_in_parts);
  if (outcome && !room) outcome = fail(live_map_full());
  if (!outcome) co_return co_await settle(std::move(outcome), fua);
  // All take their places in the line now. What came to its own only later, when the kernel may
  // have given the command up, would land on what its initiator has written there since.
  std::vector<Task<Result<>>> parts;
  parts.reserve(3);
  if (!plan.head.empty()) parts.push_back(writer_.write(plan.head, head_data, head));
  if (!plan.blocks.empty()) parts.push_back(zero_blocks(plan.blocks, how));
  if (!plan.tail.empty()) parts.push_back(writer_.write(plan.tail, tail_data, tail));
  for (Task<Result<>>& part : parts) {
    auto done = co_await std::move(part);
    if (!done && outcome) outcome = std::move(done);
  }
  co_return co_await settle(std::move(outcome), fua);
}

Task<Result<>> Engine::zero_blocks(BlockRange blocks, Zeroing how) {
  const Extent extent = geometry_.bytes(blocks);
  const InFlight::Entry claim = co_await in_flight_.acquire(extent);
  const bool deallocate = how == Zeroing::deallocate && discard_passdown_;
  if (plain_) {
    auto zeroed = co_await parts_.destination.zero(extent, deallocate);
    if (zeroed) parts_.metadata.note_written(blocks);
    co_return zeroed;
  }
  if (!parts_.metadata.set(blocks, BlockState::zero, Cause::written)) {
    co_return fail(live_map_full());
  }
  if (deallocate) {
    auto discarded = co_await parts_.destination.discard(extent);
    // The state says zero, whatever became of the space.
    if (!discarded) log_line(LOG_WARNING, "discard: {}", discarded.error().message());
  }
  co_return Result<>{};
}

// ---- COMPARE AND WRITE ----

Task<Result<>> Engine::compare_and_write(Extent extent, std::span<const iovec> data, bool fua,
                                         const void* who) {
  const Commands::Command command = commands_.enter();
  if (auto allowed = may_write(); !allowed) co_return allowed;
  if (extent.length > CompareAndWrite::kLargest) {
    co_return fail(Errc::refused, "COMPARE AND WRITE of more than 64 KiB");
  }
  const auto deadline = give_up();
  auto outcome = co_await compare_and_write_.run(extent, data, who, deadline);
  co_return co_await settle(std::move(outcome), fua);
}

// ---- administration ----

// BUSY asks for patience, which helps while the origin may come back.
bool Engine::gives_up_a_lost_origin() const {
  return on_origin_loss_ == OriginLoss::error && parts_.origin && parts_.origin->known_lost();
}

Result<> Engine::counted(Result<> outcome) {
  if (outcome) return outcome;
  if (outcome.error().code == Errc::busy && gives_up_a_lost_origin()) {
    outcome.error().code = make_error_code(Errc::origin_lost);
  }
  const std::error_code code = outcome.error().code;
  if (code == Errc::busy) ++errors_.busy;
  if (code == Errc::origin_lost) ++errors_.origin_lost;
  if (code == Errc::origin_read) ++errors_.origin_read;
  if (code == Errc::destination_read || code == Errc::destination_write || code == Errc::no_space) {
    ++errors_.destination;
  }
  return outcome;
}

void Engine::failed(const Error& error) {
  ++errors_.metadata;
  hydrator_.halt(true);
  log_line(LOG_CRIT,
           "{}: nothing is durable any more; reads go on, {}: mend the device, then "
           "`clonectl message NAME clear_needs_check`",
           error.message(), read_only_ ? "writes are refused" : "FLUSH fails");
}

void Engine::mismatched(Extent extent) {
  ++errors_.mismatch;
  log_line(
      LOG_ERR,
      "verify: bytes {}..{} of the destination differ from the origin, though they were copied "
      "from it and not written since: something else has changed one of the two",
      extent.offset, extent.end() - 1);
}

Result<Verification> Engine::verify(VerifyAction action) {
  if (complete_) {
    return fail(Errc::refused,
                "verify: the copy is complete: its origin is closed, and what users wrote is not "
                "told apart any more: remove the LUN, then clonectl check META --deep counts what "
                "differs");
  }
  if (action == VerifyAction::start) {
    if (const auto started = verifier_.start(); !started) return fail(started.error());
  }
  if (action == VerifyAction::stop) verifier_.cancel("as asked");
  return verifier_.look();
}

Task<Result<>> Engine::clear_needs_check() {
  const Gate::Holder holder = background_.enter();
  auto cleared = co_await committer_.clear();
  if (cleared) {
    hydrator_.halt(false);
    read_only_ = false;
  }
  co_return cleared;
}

void Engine::apply_live(const Options& options) {
  discard_passdown_ = options.discard_passdown;
  origin_timeout_ = milliseconds(options.origin_timeout_ms);
  on_origin_loss_ = options.on_origin_loss;
  hydrator_.tune(tuning_of(options));
  copy_on_read_.enable(options.copy_on_read);
}

Status Engine::status() const {
  const MetadataStore& metadata = parts_.metadata;
  Status status;
  status.size_bytes = geometry_.size_bytes();
  status.region_bytes = geometry_.region_size();
  status.blocks = metadata.map().counts();
  status.regions = {metadata.map().hydrated_regions(), hydrator_.regions_in_flight(),
                    geometry_.regions()};
  const Hydrator::Tuning& tuning = hydrator_.tuning();
  status.hydration.enabled = tuning.enabled;
  status.hydration.copy_on_read = copy_on_read_.enabled();
  status.hydration.threshold = hydrator_.threshold();
  status.hydration.batch = hydrator_.batch_size();
  status.hydration.held_up_by = hydrator_.held_up_by();
  status.hydration.rate_limit = tuning.rate_limit;
  status.hydration.min_rate = hydrator_.min_rate();
  status.hydration.rate_bytes_per_s = complete_ ? 0 : hydrator_.bytes_per_second();
  const std::optional<std::uint64_t> left = complete_ ? 0 : hydrator_.seconds_left();
  status.hydration.eta_known = left.has_value();
  status.hydration.eta_s = left.value_or(0);
  status.errors = errors_;
  status.errors.origin_read += hydrator_.errors().origin_read;
  status.errors.destination += hydrator_.errors().destination;
  status.metadata = {metadata.used_units(), metadata.total_units(), metadata.commits()};
  status.discard_passdown = discard_passdown_;
  status.write_cache = write_cache_;
  const bool failed = !committer_.failure();
  status.mode = failed || configured_read_only_ ? CloneMode::ro : CloneMode::rw;
  if (failed) status.reason = committer_.failure().error().message();
  status.state = failed            ? CloneState::failed
                 : complete_       ? CloneState::complete
                 : !tuning.enabled ? CloneState::paused
                                   : CloneState::hydrating;
  return status;
}

}  // namespace clonedev
