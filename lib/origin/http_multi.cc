#include "origin/http_multi.h"

#include <poll.h>

#include <algorithm>

namespace clonedev {
namespace {

// Once for the process; libcurl 7.84 and later take care of threads by themselves.
bool initialize_curl() {
  static const bool done = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return done;
}

short wanted_events(int what) {
  int events = 0;
  if (what & CURL_POLL_IN) events |= POLLIN;
  if (what & CURL_POLL_OUT) events |= POLLOUT;
  return static_cast<short>(events);
}

int curl_events(int happened) {
  int events = 0;
  if (happened & (POLLIN | POLLHUP)) events |= CURL_CSELECT_IN;
  if (happened & POLLOUT) events |= CURL_CSELECT_OUT;
  if (happened & (POLLERR | POLLNVAL)) events |= CURL_CSELECT_ERR;
  return events;
}

}  // namespace

struct HttpMulti::Socket {
  Socket(Reactor& reactor, int number) : fd(number), watch(reactor, number) {}
  const int fd;
  Reactor::Watch watch;
  short events = 0;
  bool removed = false;  // libcurl has closed it, or is about to.
};

struct HttpMulti::CurlTimer : Scheduler::Timer {
  explicit CurlTimer(HttpMulti& multi) : Timer(&fire), owner(multi) {}
  static void fire(Timer& timer) {
    static_cast<CurlTimer&>(timer).owner.act(CURL_SOCKET_TIMEOUT, 0);
  }
  HttpMulti& owner;
};

struct HttpMulti::Watchdog : Scheduler::Timer {
  explicit Watchdog(HttpMulti& multi) : Timer(&fire), owner(multi) {}
  static void fire(Timer& timer) { static_cast<Watchdog&>(timer).owner.bark(); }
  HttpMulti& owner;
};

HttpMulti::HttpMulti(Reactor& reactor, Scheduler::Duration patience, long most_connections)
    : reactor_(reactor),
      patience_(patience),
      most_connections_(most_connections),
      timer_(std::make_unique<CurlTimer>(*this)),
      watchdog_(std::make_unique<Watchdog>(*this)) {}

bool HttpMulti::begin() {
  if (multi_) return true;
  multi_ = initialize_curl() ? curl_multi_init() : nullptr;
  if (!multi_) return false;
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &HttpMulti::on_socket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &HttpMulti::on_timer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
  curl_multi_setopt(multi_, CURLMOPT_MAX_HOST_CONNECTIONS, most_connections_);
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, most_connections_);
  return true;
}

HttpMulti::~HttpMulti() { assert(!multi_ && gate_.idle() && "close() it first"); }

Task<CURLcode> HttpMulti::perform(HttpTransfer& transfer) {
  const auto inside = gate_.enter();
  if (stopped_) co_return CURLE_ABORTED_BY_CALLBACK;
  transfer.last_progress = reactor_.now();
  curl_easy_setopt(transfer.easy, CURLOPT_PRIVATE, &transfer);
  if (!begin() || curl_multi_add_handle(multi_, transfer.easy) != CURLM_OK) {
    co_return CURLE_OUT_OF_MEMORY;
  }
  transfers_.push_back(&transfer);
  if (transfers_.size() == 1) arm_watchdog();
  co_await transfer.done.wait();
  co_return transfer.result;
}

void HttpMulti::finish(HttpTransfer& transfer, CURLcode result) {
  curl_multi_remove_handle(multi_, transfer.easy);
  transfers_.remove(&transfer);
  transfer.result = result;
  transfer.done.set();
}

int HttpMulti::on_socket(CURL*, curl_socket_t fd, int what, void* self, void* known) {
  auto& multi = *static_cast<HttpMulti*>(self);
  auto* socket = static_cast<Socket*>(known);
  if (what == CURL_POLL_REMOVE) {
    if (!socket) return 0;
    socket->removed = true;
    socket->watch.wake();
    curl_multi_assign(multi.multi_, fd, nullptr);
    return 0;
  }
  const bool fresh = socket == nullptr;
  if (fresh) {
    socket = new Socket(multi.reactor_, fd);  // serve() is its owner.
    curl_multi_assign(multi.multi_, fd, socket);
  }
  socket->events = wanted_events(what);
  if (fresh) {
    spawn(multi.serve(socket));
  } else {
    socket->watch.wake();
  }
  return 0;
}

Task<> HttpMulti::serve(Socket* socket) {
  const auto inside = gate_.enter();
  const std::unique_ptr<Socket> own(socket);
  while (!own->removed) {
    const int happened = co_await own->watch.wait(own->events, Scheduler::TimePoint::max());
    if (happened != 0 && !own->removed) act(own->fd, curl_events(happened));
  }
}

// libcurl forbids calls into itself from here: the timer fires later, from the reactor's loop.
int HttpMulti::on_timer(CURLM*, long timeout_ms, void* self) {
  auto& multi = *static_cast<HttpMulti*>(self);
  multi.reactor_.disarm(*multi.timer_);
  if (timeout_ms < 0) return 0;
  multi.reactor_.arm(*multi.timer_, multi.reactor_.now() + std::chrono::milliseconds(timeout_ms));
  return 0;
}

void HttpMulti::act(curl_socket_t fd, int events) {
  int running = 0;
  curl_multi_socket_action(multi_, fd, events, &running);
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode result = message->data.result;
    char* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    finish(*reinterpret_cast<HttpTransfer*>(transfer), result);
  }
}

void HttpMulti::arm_watchdog() {
  reactor_.disarm(*watchdog_);
  if (transfers_.empty()) return;
  const auto idlest = std::min_element(
      transfers_.begin(), transfers_.end(),
      [](const auto* a, const auto* b) { return a->last_progress < b->last_progress; });
  reactor_.arm(*watchdog_, (*idlest)->last_progress + patience_);
}

void HttpMulti::bark() {
  const Scheduler::TimePoint latest = reactor_.now() - patience_;
  for (auto at = transfers_.begin(); at != transfers_.end();) {
    HttpTransfer& transfer = **at++;
    if (transfer.last_progress <= latest) finish(transfer, CURLE_OPERATION_TIMEDOUT);
  }
  arm_watchdog();
}

void HttpMulti::stop() {
  stopped_ = true;
  while (!transfers_.empty()) finish(*transfers_.front(), CURLE_ABORTED_BY_CALLBACK);
}

Task<> HttpMulti::close() {
  stop();
  reactor_.disarm(*watchdog_);
  if (multi_) curl_multi_cleanup(std::exchange(multi_, nullptr));  // Removes every socket.
  reactor_.disarm(*timer_);
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
