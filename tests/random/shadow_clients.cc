// What the clients of a ShadowRun ask for, and what may come of it.

#include <fmt/format.h>

#include <cstring>

#include "shadow_run.h"
#include "support/sizes.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

// A command that waits for the origin is answered by then, device time included.
constexpr auto kLongestBusy = milliseconds(3000 + 500);

std::vector<iovec> in_pieces(Bytes& data, std::mt19937_64& random) {
  std::vector<iovec> list;
  for (std::size_t at = 0; at < data.size();) {
    const std::size_t length = std::min<std::size_t>(1 + random() % 20'000, data.size() - at);
    list.push_back({&data[at], length});
    at += length;
  }
  return list;
}

std::uint64_t first_difference(const Bytes& a, const Bytes& b) {
  if (std::memcmp(a.data(), b.data(), a.size()) == 0) return a.size();
  std::uint64_t at = 0;
  while (a[at] == b[at]) ++at;
  return at;
}

}  // namespace

Extent ShadowRun::random_extent() {
  const std::uint64_t sectors = config_.size / 512;
  if (mood_ == Mood::duel)
    return {std::min(hot_block_, sectors / 8 - 2) * k4K, (1 + roll(1)) * k4K};
  if (chance(40)) {  // Whole blocks.
    const std::uint64_t blocks = Geometry::divide_up(config_.size, k4K);
    const std::uint64_t first =
        chance(50) ? std::min(hot_block_ + roll(7), blocks - 1) : roll(blocks - 1);
    const std::uint64_t end = std::min(first + 1 + roll(chance(90) ? 7 : 63), blocks);
    return Geometry(config_.size, k4K).bytes({first, end - first});
  }
  const std::uint64_t hot = std::min(hot_block_ * 8 + roll(63), sectors - 1);
  const std::uint64_t first = chance(50) ? hot : roll(sectors - 1);
  const std::uint64_t most = chance(90) ? 15 : 300;
  return {first * 512, std::min(1 + roll(most), sectors - first) * 512};
}

ShadowRun::Request ShadowRun::random_request() {
  Request request;
  request.extent = random_extent();
  request.fua = chance(10);
  const std::uint64_t dice = roll(mood_ == Mood::busy ? 99 : 130);
  if (dice < 30) {
    request.kind = Kind::read;
  } else if (dice < 68) {
    request.kind = Kind::write;
    request.number = shadow_->fresh_number();
  } else if (dice < 82) {
    request.kind = Kind::zero;
    request.how = chance(50) ? Zeroing::keep : Zeroing::deallocate;
  } else if (dice < 92) {
    request.kind = Kind::compare;
    request.extent.length = std::min(request.extent.length, std::uint64_t{16} << 10);
    request.number = shadow_->fresh_number();
    request.expected = shadow_->guess(request.extent);
    if (chance(20)) request.expected[roll(request.extent.length - 1)] ^= std::byte{1};
  } else {
    request.kind = Kind::flush;
  }
  return request;
}

Task<> ShadowRun::client(Life& life) {
  ++life.clients;
  while (!life.stopping) {
    Request request = random_request();
    co_await serve(life, std::move(request));
    if (life.stopping) break;
    const milliseconds pause(chance(50) ? roll(mood_ == Mood::calm ? 80 : 8) : 0);
    co_await life.rig->sim.sleep_for(pause);
  }
  --life.clients;
}

Task<> ShadowRun::again(Life& life, Request request) {
  ++life.clients;
  co_await serve(life, std::move(request));
  --life.clients;
}

Task<> ShadowRun::clear(Life& life) {
  ++life.clients;
  const Time begun = shadow_->now();
  const std::uint64_t faults = counts_.faults;
  const auto cleared = co_await life.rig->engine().clear_needs_check();
  --life.clients;
  if (life.over) co_return;
  if (!cleared) co_return;  // A fault that came meanwhile.
  shadow_->flushed(begun);
  read_only_until_ = std::min(read_only_until_, shadow_->now());
  const bool mended = life.rig->engine().status().mode == CloneMode::rw;
  if (mended && counts_.faults == faults) commit_trouble_ = shadow_->now();
}

Task<> ShadowRun::serve(Life& life, Request request) {
  ++counts_.requests;
  const auto place = life.pending.insert(life.pending.end(), request);
  if (request.kind == Kind::read) {
    co_await serve_read(life, request);
  } else if (request.kind == Kind::flush) {
    co_await serve_flush(life);
  } else {
    co_await serve_change(life, request);
  }
  life.pending.erase(place);
}

Task<> ShadowRun::serve_flush(Life& life) {
  ++counts_.flushes;
  const Time begun = shadow_->now();
  const auto outcome = co_await life.rig->engine().flush();
  if (life.over) co_return;
  if (outcome) {
    promised_ = true;
    shadow_->flushed(begun);
  } else if (begun > commit_trouble_) {
    complain("a flush failed without a reason: " + outcome.error().message());
  }
}

Task<> ShadowRun::serve_read(Life& life, const Request& request) {
  ++counts_.reads;
  Bytes found(request.extent.length, std::byte{0xEE});
  const std::vector<iovec> list = in_pieces(found, random_);
  const Time begun = shadow_->begin_read();
  const auto start = life.rig->sim.now();
  const auto outcome = co_await life.rig->engine().read(request.extent, list);
  if (life.over) co_return;
  if (!outcome) {
    const auto took = life.rig->sim.now() - start;
    judge_failure(request, outcome.error(), begun, took);
    found.clear();
  }
  const std::string complaint = shadow_->end_read(begun, request.extent, found);
  if (!complaint.empty()) complain(complaint);
}

Task<> ShadowRun::serve_change(Life& life, const Request& request) {
  const ShadowDisk::Change change = shadow_->begin(request.extent, request.number);
  const auto start = life.rig->sim.now();
  const auto outcome = co_await execute(*life.rig, request, change);
  if (life.over) co_return;
  if (request.kind == Kind::compare) judge_compare(request, change, outcome);
  if (outcome) {
    const bool durable = request.fua || !config_.options.write_cache;
    promised_ = promised_ || durable;
    shadow_->done(change, durable);
    co_return;
  }
  const auto took = life.rig->sim.now() - start;
  if (judge_failure(request, outcome.error(), change.begun, took)) {
    shadow_->perhaps(change);
  } else {
    const std::string complaint = shadow_->undone(change);
    if (!complaint.empty()) complain(complaint);
  }
}

Task<Result<>> ShadowRun::execute(CloneRig& on, const Request& request,
                                  const ShadowDisk::Change& change) {
  const Extent extent = request.extent;
  if (request.kind == Kind::zero) {
    ++counts_.zeroings;
    auto outcome = co_await on.engine().zero(extent, request.how, request.fua);
    co_return outcome;
  }
  Bytes data = request.expected;
  const Bytes wanted = shadow_->bytes(change.number, extent);
  data.insert(data.end(), wanted.begin(), wanted.end());
  const std::vector<iovec> list = in_pieces(data, random_);
  if (request.kind == Kind::compare) {
    ++counts_.compares;
    auto outcome = co_await on.engine().compare_and_write(extent, list, request.fua);
    co_return outcome;
  }
  ++counts_.writes;
  auto outcome = co_await on.engine().write(extent, list, request.fua);
  co_return outcome;
}

// ---- what may come of it ----

bool ShadowRun::aligned(Extent extent) const {
  return Geometry(config_.size, k4K).aligned(extent) == extent;
}

bool ShadowRun::meets_bad_block(Extent extent) const {
  const std::uint64_t first = extent.offset / k4K;
  const auto bad = bad_ever_.lower_bound(first);
  return bad != bad_ever_.end() && *bad * k4K < extent.end();
}

bool ShadowRun::judge_failure(const Request& request, const Error& error, Time begun,
                              Scheduler::Duration took) {
  const std::error_code code = error.code;
  ++counts_.refused;
  const bool change = request.kind == Kind::write || request.kind == Kind::zero;
  const bool asks_origin = !change || !aligned(request.extent);
  if (code == Errc::miscompare && request.kind == Kind::compare) return false;
  // Without any effect.
  if (code == Errc::refused && request.kind != Kind::read && begun <= read_only_until_) {
    return false;
  }
  if (code == Errc::busy && asks_origin && traits_.outages) {
    ++counts_.busy;
    if (took > kLongestBusy) complain(fmt::format("BUSY after {} ms", took / milliseconds(1)));
    return false;
  }
  if (code == Errc::origin_read && asks_origin && meets_bad_block(request.extent)) return false;
  if ((code == Errc::destination_read || code == Errc::destination_write) &&
      traits_.device_faults) {
    return true;
  }
  const bool durable = request.fua || !config_.options.write_cache;
  if (durable && request.kind != Kind::read && begun <= commit_trouble_) return true;
  complain(fmt::format("request {} of {}+{} failed without a reason: {}",
                       static_cast<int>(request.kind), request.extent.offset, request.extent.length,
                       error.message()));
  return true;
}

// Where nobody else was writing there is only one right answer.
void ShadowRun::judge_compare(const Request& request, const ShadowDisk::Change& change,
                              const Result<>& outcome) {
  const bool differs = !outcome && outcome.error().code == Errc::miscompare;
  if (!outcome && !differs) return;
  const auto content = shadow_->settled(request.extent, change);
  if (!content) return;
  const std::uint64_t at = first_difference(*content, request.expected);
  const bool equal = at == content->size();
  const bool had_landed =
      request.again &&
      first_difference(*content, shadow_->bytes(request.number, request.extent)) == content->size();
  if (differs && (equal || had_landed)) {
    complain(fmt::format("COMPARE AND WRITE {} at {} miscompares, but the data are the same{}",
                         request.number, request.extent.offset, had_landed ? " (again)" : ""));
  } else if (outcome && !equal && !had_landed) {
    const std::uint64_t first = at / 512 * 512;
    const std::string what = fmt::format(
        "COMPARE AND WRITE {} succeeds, expecting, where the data differ,", request.number);
    complain(
        shadow_->complaint(what, (request.extent.offset + first) / 512, &request.expected[first]));
  } else if (differs && outcome.error().detail != at) {
    complain(fmt::format("COMPARE AND WRITE names byte {}, but {} differs first",
                         outcome.error().detail, at));
  }
}

}  // namespace clonedev
