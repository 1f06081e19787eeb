#include "origin/http_origin.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "origin/origin_name.h"
#include "origin/origin_samples.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kLongestRest(10);  // As the longest pause of the link.
constexpr std::size_t kLongestEtagOfIdentity = 128;

bool is_redirect(int status) { return status >= 300 && status < 400; }

bool is_overloaded(int status) {
  return status == 408 || status == 429 || status == 502 || status == 503 || status == 504;
}

// What a location that has expired says, by the kind of its store.
bool may_have_expired(int status) {
  return is_redirect(status) || status == 400 || status == 401 || status == 403 || status == 404 ||
         status == 410;
}

std::string sentence_of_status(int status) {
  switch (status) {
    case 401:
      return "the server wants credentials (401): write user and password into the URL or an "
             "origin_token into the conf file";
    case 403:
      return "the server forbids it (403): check the rights of user or token, or whether the URL's "
             "signature has expired";
    case 404:
      return "the server has no such object (404): check the URL";
    case 410:
      return "the object is gone from the server for good (410): check the URL";
    case 429:
      return "the server wants fewer requests (429)";
    case 503:
      return "the server is overloaded or out of service (503)";
    default:
      return status >= 500 ? fmt::format("the server failed ({})", status)
                           : fmt::format("the server answered with the status {}", status);
  }
}

std::string text_of(Scheduler::Duration duration) {
  const auto ms = std::chrono::duration_cast<milliseconds>(duration).count();
  return fmt::format("{}.{:03} s", ms / 1000, ms % 1000);
}

}  // namespace

// A place among the requests under way, and a handle.
class HttpOrigin::Turn {
 public:
  explicit Turn(HttpOrigin& origin) : origin_(origin), easy_(origin.take_easy()) {
    ++origin_.requests_;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (easy_) origin_.idle_.push_back(std::move(easy_));
    --origin_.requests_;
    origin_.turn_.wake_all();
  }
  CURL* easy() const { return easy_.get(); }

 private:
  HttpOrigin& origin_;
  CurlEasy easy_;
};

HttpOrigin::HttpOrigin(Reactor& reactor, std::shared_ptr<const HttpTarget> target,
                       Scheduler::Duration patience, std::shared_ptr<HttpRest> rest)
    : reactor_(reactor),
      target_(std::move(target)),
      patience_(patience),
      rest_(std::move(rest)),
      multi_(reactor, patience, static_cast<long>(kMostRequests)) {}

HttpOrigin::~HttpOrigin() = default;

CurlEasy HttpOrigin::take_easy() {
  if (idle_.empty()) return CurlEasy(curl_easy_init());
  CurlEasy easy = std::move(idle_.back());
  idle_.pop_back();
  return easy;
}

Task<> HttpOrigin::wait_for_turn() {
  while (requests_ >= kMostRequests && !closed_) co_await turn_.wait();
}

Task<Result<>> HttpOrigin::open() {
  const auto inside = gate_.enter();
  const Scheduler::TimePoint rested = rest_->until;
  if (reactor_.now() < rested) co_await stop_.wait_until(rested);
  auto probed = co_await probe();
  if (!probed) {
    failed_ = true;
    co_return fail(remember(probed.error()));
  }
  opened_ = true;
  co_return Result<>();
}

Task<Result<>> HttpOrigin::probe() {
  if (closed_) co_return fail(error(Errc::closed, "closed"));
  const Turn turn(*this);
  if (!turn.easy()) co_return fail(error(Errc::unavailable, "no memory for a request"));
  HttpExchange exchange(multi_, turn.easy(), *target_, nullptr);
  std::byte first{};
  const std::span<std::byte> buffer(&first, 1);
  std::string original;
  co_await exchange.run(std::move(original), false, 0, buffer);
  co_return learn(exchange);
}

Result<> HttpOrigin::learn(const HttpExchange& exchange) {
  const HttpHead& head = exchange.head();
  const auto& range = head.content_range();
  const bool empty = head.status() == 416 ? range && range->total == 0U
                                          : head.status() == 200 && head.content_length() == 0U;
  if (empty) return fail(error(Errc::refused, "is empty: there is nothing to clone"));
  if (!exchange.answered() || (head.status() != 200 && head.status() != 206)) {
    return fail(verdict(exchange, {0, 1}));
  }
  if (head.encoded()) {
    return fail(error(Errc::refused,
                      "the server encodes what it sends although it was asked not to "
                      "(Content-Encoding): have it serve the plain bytes"));
  }
  if (head.status() == 200 || !range || !range->total) {
    return fail(error(Errc::refused,
                      "the server does not support range requests, which reading a disk in parts "
                      "needs: use one that answers them with 206 and Content-Range"));
  }
  if (!answers_range(head, {0, 1})) {
    return fail(error(Errc::refused, "the server's answer does not fit the range that was asked"));
  }
  pin_.size = *range->total;
  pin_.etag = head.strong_etag();
  if (pin_.etag.empty()) pin_.last_modified = head.last_modified();
  const std::string where = exchange.effective_url();
  if (where != target_->url) location_ = where;
  return {};
}

Task<Result<OriginBytes>> HttpOrigin::read(std::uint64_t offset, std::span<std::byte> room) {
  const auto inside = gate_.enter();
  const Limits limits{.most = kPiece};
  co_return co_await read_pieces(offset, room, limits);
}

Task<Result<>> HttpOrigin::read_piece(std::uint64_t offset, std::span<std::byte> buffer) {
  const auto inside = gate_.enter();
  co_await wait_for_turn();
  if (closed_) co_return fail(error(Errc::closed, "closed"));
  const Turn turn(*this);
  if (!turn.easy()) co_return fail(error(Errc::unavailable, "no memory for a request"));
  for (bool again = false;; again = true) {
    if (failed_) co_return fail(Error{make_error_code(Errc::unavailable), last_error_});
    HttpExchange exchange(multi_, turn.easy(), *target_, &pin_);
    std::string location = again ? std::string() : location_;
    const bool at_location = !location.empty();
    co_await exchange.run(std::move(location), again, offset, buffer);
    if (exchange.complete()) {
      const std::string where = again ? exchange.effective_url() : target_->url;
      if (where != target_->url) location_ = where;
      co_return Result<>();
    }
    if (!again && worth_another(exchange, at_location)) continue;
    Error why = verdict(exchange, {offset, buffer.size()});
    if (why.code == Errc::unavailable) failed_ = true;
    co_return fail(remember(std::move(why)));
  }
}

bool HttpOrigin::worth_another(const HttpExchange& exchange, bool at_location) const {
  if (closed_ || exchange.result() == CURLE_OPERATION_TIMEDOUT) return false;
  const int status = exchange.head().status();
  if (!exchange.answered()) return true;
  if (at_location && may_have_expired(status)) return true;
  const bool refused_by_us = exchange.result() == CURLE_WRITE_ERROR;
  return status == 206 && exchange.result() != CURLE_OK && !refused_by_us;
}

Error HttpOrigin::verdict(const HttpExchange& exchange, Extent wanted) {
  if (closed_) return error(Errc::closed, "closed");
  if (exchange.result() == CURLE_OPERATION_TIMEDOUT) {
    return error(Errc::unavailable, "no answer for " + text_of(patience_));
  }
  if (!exchange.answered()) return error(Errc::unavailable, exchange.error_text());
  if (exchange.head().status() != 206) return verdict_on_status(exchange);
  if (const std::string changed = pin_.difference(exchange.head()); !changed.empty()) {
    return error(Errc::unavailable, "its content has changed: " + changed);
  }
  const std::string what = fmt::format("read of {} bytes at {}: ", wanted.length, wanted.offset);
  const bool ended = exchange.result() == CURLE_OK;  // By its own account.
  if (ended || exchange.too_long() || !answers_range(exchange.head(), wanted)) {
    return error(Errc::origin_read, what + "the server's answer does not fit the request");
  }
  return error(Errc::unavailable, what + fmt::format("the answer broke off after {} bytes: {}",
                                                     exchange.received(), exchange.error_text()));
}

// A state of the whole server or object is an outage; anything else concerns these bytes alone.
Error HttpOrigin::verdict_on_status(const HttpExchange& exchange) {
  const int status = exchange.head().status();
  const auto rest = exchange.head().retry_after();
  if (is_overloaded(status)) {
    if (rest) rest_->until = reactor_.now() + std::min<seconds>(*rest, kLongestRest);
    return error(Errc::unavailable, sentence_of_status(status));
  }
  if (!opened_)
    return error(status >= 500 ? Errc::unavailable : Errc::refused, sentence_of_status(status));
  switch (status) {
    case 200:
      return error(Errc::unavailable, "the server does not answer range requests any more");
    case 412:
    case 416:
      return error(Errc::unavailable,
                   fmt::format("its content has changed: the server says so ({})", status));
    case 401:
    case 403:
    case 404:
    case 410:
      return error(Errc::unavailable, sentence_of_status(status));
    default:
      return error(is_redirect(status) ? Errc::unavailable : Errc::origin_read,
                   sentence_of_status(status));
  }
}

Task<Result<std::vector<OriginExtent>>> HttpOrigin::extents(Extent range) {
  const std::vector<OriginExtent> unknown{{range, false}};  // HTTP cannot say more.
  co_return unknown;
}

Task<Result<std::string>> HttpOrigin::identity() {
  const auto inside = gate_.enter();
  if (!pin_.etag.empty() && pin_.etag.size() <= kLongestEtagOfIdentity) {
    co_return fmt::format("http:size={};etag={}", pin_.size, pin_.etag);
  }
  auto digest = co_await sample_digest(*this);
  if (!digest) co_return fail(digest.error());
  const std::time_t changed = curl_getdate(pin_.last_modified.c_str(), nullptr);
  const std::string when = changed == -1 ? std::string() : fmt::format("mtime={};", changed);
  co_return fmt::format("http:size={};{}samples={}", pin_.size, when, *digest);
}

Origin::State HttpOrigin::state() const {
  if (closed_) return State::closed;
  if (failed_) return State::down;
  return opened_ ? State::connected : State::connecting;
}

Error HttpOrigin::error(Errc code, const std::string& why) const {
  return {make_error_code(code), fmt::format("origin {}: {}", origin_name(target_->url),
                                             origin_sentence(target_->url, why))};
}

Error HttpOrigin::remember(Error error) {
  last_error_ = error.context;
  return error;
}

Task<> HttpOrigin::close() {
  closed_ = true;
  stop_.set();
  turn_.wake_all();
  co_await multi_.close();
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
