#include "origin/nbd_connection.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "origin/origin_name.h"
#include "origin/read_coverage.h"

namespace clonedev {
namespace {

constexpr std::uint32_t kLargestRequest = 32U << 20;  // What the protocol allows unasked.
constexpr std::uint32_t kSmallestMaximum = 4096;      // Less would shred every read.
constexpr std::uint32_t kLargestMinimum = 65536;
constexpr std::size_t kMostExtents = 65536;  // Of one answer; the rest is asked for again.

// Notices within half a minute that the peer of an idle connection has gone without a word.
void keep_alive(int fd) {
  const auto set = [fd](int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof value);  // Fails on Unix sockets; harmless.
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

bool means_lost(int code) { return code == ENOTCONN || code == ESHUTDOWN; }

// libnbd begins its sentences with the name of the function.
std::string_view without_function(std::string_view text) {
  const std::size_t colon = text.find(": ");
  return text.starts_with("nbd_") && colon != std::string_view::npos ? text.substr(colon + 2)
                                                                     : text;
}

}  // namespace

struct NbdConnection::Request {
  Request(NbdConnection& connection, Extent wanted) : owner(connection), range(wanted) {
    if (owner.requests_.empty()) owner.watch_progress();
    place = owner.requests_.insert(owner.requests_.end(), this);
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request() { owner.requests_.erase(place); }

  NbdConnection& owner;
  const Extent range;
  std::list<Request*>::iterator place;
  int error = 0;
  ReadCoverage coverage;
  std::vector<OriginExtent> extents;
  Event done;
};

struct NbdConnection::Watchdog : Scheduler::Timer {
  explicit Watchdog(NbdConnection& connection) : Timer(&bark), owner(connection) {}
  static void bark(Timer& timer) {
    auto& self = static_cast<Watchdog&>(timer);
    self.armed = false;
    self.owner.on_watchdog();
  }
  NbdConnection& owner;
  bool armed = false;
};

NbdConnection::NbdConnection(Reactor& reactor, std::string uri, Scheduler::Duration patience)
    : reactor_(reactor),
      uri_(std::move(uri)),
      patience_(patience),
      watchdog_(std::make_unique<Watchdog>(*this)) {}

NbdConnection::~NbdConnection() { assert(!handle_ && gate_.idle() && "close() it first"); }

Task<Result<>> NbdConnection::connect() {
  const auto inside = gate_.enter();
  phase_ = Phase::connecting;
  watch_progress();
  auto dialled = co_await dial();
  if (!dialled) {
    note_failure(dialled.error().context.c_str());
    tear_down();
    co_return fail(Error{dialled.error().code, lost_error().context});
  }
  spawn(pump());
  co_return Result<>();
}

Task<Result<>> NbdConnection::dial() {
  if (stopping()) co_return fail(Errc::closed, "closed");
  auto dial = NbdDial::start(uri_);
  if (!dial) co_return fail(dial.error());
  Reactor::Watch watch(reactor_, (*dial)->fd());
  watch_ = &watch;
  co_await watch.wait(POLLIN, Scheduler::TimePoint::max());
  watch_ = nullptr;
  if (stopping()) co_return fail(Errc::unavailable, failure_.empty() ? "closed" : failure_);
  if (!(*dial)->finished()) co_return fail(Errc::unavailable, "cannot be dialled");
  auto handle = (*dial)->take();
  if (!handle) co_return fail(handle.error());
  handle_ = std::move(*handle);
  co_return become_ready();
}

Task<> NbdConnection::pump() {
  const auto inside = gate_.enter();
  while (!stopping()) {
    const short events = nbd_wanted_events(handle_.get());
    if (events == 0) break;  // Dead or closed.
    Reactor::Watch watch(reactor_, nbd_aio_get_fd(handle_.get()));
    watch_ = &watch;
    const int happened = co_await watch.wait(events, Scheduler::TimePoint::max());
    watch_ = nullptr;
    if (stopping() || happened == 0) continue;
    if (nbd_step(handle_.get(), happened) == -1) note_failure(nbd_get_error());
  }
  tear_down();
}

Result<> NbdConnection::become_ready() {
  auto learned = learn_export();
  if (!learned) return learned;
  keep_alive(nbd_aio_get_fd(handle_.get()));
  phase_ = Phase::ready;
  was_ready_ = true;
  return {};
}

Result<> NbdConnection::learn_export() {
  nbd_handle* h = handle_.get();
  const std::int64_t size = nbd_get_size(h);
  if (size < 0) return fail(Errc::unavailable, "the server names no sensible size");
  const std::int64_t minimum =
      std::max<std::int64_t>(nbd_get_block_size(h, LIBNBD_SIZE_MINIMUM), 1);
  std::int64_t maximum = nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM);
  if (maximum <= 0 || maximum > kLargestRequest) maximum = kLargestRequest;
  maximum -= maximum % minimum;
  if (minimum > kLargestMinimum || !std::has_single_bit(static_cast<std::uint64_t>(minimum)) ||
      maximum < kSmallestMaximum || size % minimum != 0) {
    return fail(Errc::unavailable,
                fmt::format("the server's limits make no sense: requests of {} to {} bytes, size "
                            "{}",
                            minimum, maximum, size));
  }
  export_.size = static_cast<std::uint64_t>(size);
  export_.minimum = static_cast<std::uint32_t>(minimum);
  export_.maximum = static_cast<std::uint32_t>(maximum);
  export_.multi_conn = nbd_can_multi_conn(h) == 1;
  export_.block_status = nbd_can_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  return {};
}

Task<Result<>> NbdConnection::read(std::uint64_t offset, std::span<std::byte> buffer) {
  const auto inside = gate_.enter();
  if (!usable()) co_return fail(lost_error());
  Request request(*this, {offset, buffer.size()});
  const std::int64_t cookie =
      nbd_aio_pread_structured(handle_.get(), buffer.data(), buffer.size(), offset,
                               {&on_chunk, &request, nullptr}, {&on_done, &request, nullptr}, 0);
  if (cookie == -1) co_return fail(verdict(request, "read"));
  after_issue();
  co_await request.done.wait();
  retire(cookie);
  if (request.error != 0) co_return fail(verdict(request, "read"));
  if (!request.coverage.exactly(request.range)) {
    request.error = EPROTO;
    co_return fail(verdict(request, "read"));
  }
  co_return Result<>();
}

Task<Result<std::vector<OriginExtent>>> NbdConnection::block_status(Extent range) {
  const auto inside = gate_.enter();
  if (!usable()) co_return fail(lost_error());
  Request request(*this, range);
  const std::int64_t cookie =
      nbd_aio_block_status(handle_.get(), range.length, range.offset,
                           {&on_extents, &request, nullptr}, {&on_done, &request, nullptr}, 0);
  if (cookie == -1) co_return fail(verdict(request, "block status"));
  after_issue();
  co_await request.done.wait();
  retire(cookie);
  if (request.error == 0 && request.extents.empty()) request.error = EPROTO;
  if (request.error != 0) co_return fail(verdict(request, "block status"));
  co_return std::move(request.extents);
}

// libnbd has tried to send at once. When it could not, or died of it, the pump has to know.
void NbdConnection::after_issue() {
  if (nbd_aio_is_dead(handle_.get())) note_failure(nbd_get_error());
  if (nbd_wanted_events(handle_.get()) != POLLIN) wake();
}

int NbdConnection::on_chunk(void* data, const void*, std::size_t count, std::uint64_t offset,
                            unsigned status, int*) {
  auto& request = *static_cast<Request*>(data);
  if (status != LIBNBD_READ_ERROR) request.coverage.add({offset, count});
  return 0;
}

// libnbd does not judge the entries: lengths of zero, or past the range, come as they were sent.
int NbdConnection::on_extents(void* data, const char* context, std::uint64_t offset,
                              std::uint32_t* entries, std::size_t count, int*) {
  auto& request = *static_cast<Request*>(data);
  if (std::strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 || !request.extents.empty())
    return 0;
  const Extent range = request.range;
  for (std::size_t i = 0; i + 1 < count && request.extents.size() < kMostExtents; i += 2) {
    const Extent piece = intersect({offset, entries[i]}, range);
    if (piece.offset != offset || piece.empty()) break;
    request.extents.push_back({piece, (entries[i + 1] & LIBNBD_STATE_ZERO) != 0});
    offset = piece.end();
  }
  return 0;
}

// Returns 0, never 1: a command that retires itself is read again by libnbd 1.14 after it was
// freed, when sending it breaks the connection.
int NbdConnection::on_done(void* data, int* error) {
  auto& request = *static_cast<Request*>(data);
  request.owner.complete(request, *error);
  return 0;
}

void NbdConnection::complete(Request& request, int error) {
  if (request.done.is_set()) return;
  request.error = error;
  last_progress_ = reactor_.now();
  request.done.set();
}

void NbdConnection::retire(std::int64_t cookie) {
  if (handle_) nbd_aio_command_completed(handle_.get(), static_cast<std::uint64_t>(cookie));
}

Error NbdConnection::verdict(const Request& request, const char* what) {
  if (!usable() || means_lost(request.error) || nbd_wanted_events(handle_.get()) == 0) {
    if (request.error == ESHUTDOWN) break_off("the server is shutting down");
    return lost_error();
  }
  std::string why;
  if (request.error == EPROTO) {
    why = "the server's answer does not fit the request";
  } else if (request.error != 0) {
    why = std::strerror(request.error);
  } else if (const char* text = nbd_get_error()) {
    why = without_function(text);
  }
  return {make_error_code(Errc::origin_read),
          origin_sentence(uri_, fmt::format("origin {}: {} of {} bytes at {}: {}", uri_, what,
                                            request.range.length, request.range.offset, why))};
}

void NbdConnection::watch_progress() {
  last_progress_ = reactor_.now();
  if (watchdog_->armed) return;
  watchdog_->armed = true;
  reactor_.arm(*watchdog_, last_progress_ + patience_);
}

void NbdConnection::on_watchdog() {
  if (stopping() || phase_ == Phase::torn_down) return;
  if (phase_ == Phase::ready && requests_.empty()) return;  // The next request arms it again.
  const Scheduler::TimePoint due = last_progress_ + patience_;
  if (reactor_.now() < due) {
    watchdog_->armed = true;
    reactor_.arm(*watchdog_, due);
    return;
  }
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(patience_).count();
  break_off(fmt::format("no answer for {}.{:03} s", ms / 1000, ms % 1000));
}

void NbdConnection::break_off(std::string why) {
  note_failure(why.c_str());
  broken_ = true;
  wake();
}

void NbdConnection::note_failure(const char* text) {
  if (!failure_.empty()) return;
  failure_ = text ? without_function(text) : "the connection broke";
  // GnuTLS knows more, but libnbd passes on no more than this.
  if (failure_.find("certificate verification") != std::string::npos) {
    failure_ =
        "the server's certificate is not believed: it has expired, or names another host, or is "
        "not of the authority in ca-cert.pem";
  }
}

Error NbdConnection::lost_error() const {
  const std::string why = failure_.empty() ? "closed" : failure_;
  return {make_error_code(Errc::unavailable),
          origin_sentence(uri_, fmt::format("origin {}: {}", uri_, why))};
}

void NbdConnection::wake() {
  if (watch_) watch_->wake();
}

void NbdConnection::tear_down() {
  phase_ = Phase::torn_down;
  if (!closing_) note_failure("the server closed the connection");
  if (closing_ && handle_) nbd_aio_disconnect(handle_.get(), 0);  // A word of goodbye, no waiting.
  handle_.reset();  // From here on libnbd writes to no buffer, and only now may requests end.
  for (Request* request : requests_) complete(*request, ENOTCONN);
  reactor_.disarm(*watchdog_);
  watchdog_->armed = false;
}

void NbdConnection::stop() {
  closing_ = true;
  wake();
}

Task<> NbdConnection::close() {
  stop();
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
