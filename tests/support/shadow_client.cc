#include "support/shadow_client.h"

#include <fmt/format.h>

namespace clonedev {

void ShadowClient::complain(const std::string& text) {
  if (complaint_.empty() && !text.empty()) complaint_ = text;
}

Task<> ShadowClient::serve(Request request) {
  ++under_way_;
  if (request.kind == Request::Kind::read) {
    co_await serve_read(request.extent);
  } else if (request.kind == Request::Kind::flush) {
    co_await serve_flush();
  } else {
    co_await serve_change(request);
  }
  --under_way_;
}

Task<> ShadowClient::serve_read(Extent extent) {
  Bytes found(extent.length, std::byte{0xEE});
  const iovec into{found.data(), found.size()};
  const std::span<const iovec> list(&into, 1);
  const ShadowDisk::Time begun = shadow_.begin_read();
  const auto outcome = co_await rig_.engine().read(on_disk(extent), list);
  if (dead_) co_return;
  ++answered_;
  if (!outcome) {
    found.clear();
    if (!excuses.origin) complain("a read failed: " + outcome.error().message());
  }
  complain(shadow_.end_read(begun, extent, found));
}

Task<> ShadowClient::serve_flush() {
  const ShadowDisk::Time begun = shadow_.now();
  const auto outcome = co_await rig_.engine().flush();
  if (dead_) co_return;
  ++answered_;
  if (outcome) {
    ++promises_;
    shadow_.flushed(begun);
  } else if (!excuses.durable) {
    complain("a flush failed: " + outcome.error().message());
  }
}

Task<> ShadowClient::serve_change(Request request) {
  const bool zero = request.kind == Request::Kind::zero;
  const ShadowDisk::Number number = zero ? ShadowDisk::kZero : shadow_.fresh_number();
  const Bytes expected = shadow_.guess(request.extent);
  const ShadowDisk::Change change = shadow_.begin(request.extent, number);
  const auto outcome = co_await execute(request, number, expected);
  if (dead_) co_return;
  ++answered_;
  judge(request, change, expected, outcome);
}

Task<Result<>> ShadowClient::execute(Request request, ShadowDisk::Number number,
                                     const Bytes& expected) {
  const Extent extent = on_disk(request.extent);
  if (request.kind == Request::Kind::zero) {
    co_return co_await rig_.engine().zero(extent, request.how, request.fua);
  }
  const bool compare = request.kind == Request::Kind::compare;
  Bytes data = compare ? expected : Bytes();
  const Bytes wanted = shadow_.bytes(number, request.extent);
  data.insert(data.end(), wanted.begin(), wanted.end());
  const iovec from{data.data(), data.size()};
  const std::span<const iovec> list(&from, 1);
  if (compare) co_return co_await rig_.engine().compare_and_write(extent, list, request.fua);
  co_return co_await rig_.engine().write(extent, list, request.fua);
}

void ShadowClient::judge(const Request& request, const ShadowDisk::Change& change,
                         const Bytes& expected, const Result<>& outcome) {
  if (request.kind == Request::Kind::compare) {
    // Where nobody else was writing there is only one right answer.
    const auto content = shadow_.settled(request.extent, change);
    const bool differs = !outcome && outcome.error().code == Errc::miscompare;
    if (content && differs != (*content != expected) && (outcome || differs)) {
      complain(differs ? "a COMPARE AND WRITE miscompares, but the data are the same"
                       : "a COMPARE AND WRITE succeeds, but the data differ");
    }
  }
  if (!outcome) return judge_failure(request, change, outcome.error());
  promises_ += request.fua;
  shadow_.done(change, request.fua);
}

void ShadowClient::judge_failure(const Request& request, const ShadowDisk::Change& change,
                                 const Error& error) {
  if (excuses.durable && request.fua) return shadow_.perhaps(change);
  const bool compare = request.kind == Request::Kind::compare && error.code == Errc::miscompare;
  const bool origin = excuses.origin && (error.code == Errc::busy || error.code == Errc::closed);
  if (!compare && !origin) {
    complain(fmt::format("a request of {}+{} failed: {}", request.extent.offset,
                         request.extent.length, error.message()));
  }
  complain(shadow_.undone(change));
}

}  // namespace clonedev
