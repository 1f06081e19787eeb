#include "origin/iscsi_session.h"

#include <fmt/format.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>

#include "origin/host_lookup.h"
#include "origin/origin_name.h"
#include "origin/read_marks.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

constexpr int kMostMoves = 4;
constexpr unsigned kMostAttentions = 10;
constexpr int kNoMedium = 0x3a;
constexpr milliseconds kFirstPause(50);
constexpr milliseconds kLongestPause(1000);

// Additional sense codes of SPC-5, annex F; sense keys are libiscsi's.
bool means_other_content(int code) {
  return code == 0x2a09 || code == 0x3f03 || code == 0x3f05 || code == 0x3f0e;
}
bool means_gone(int code) { return code == 0x2500 || code == 0x2100; }

}  // namespace

std::string default_iscsi_initiator() {
  char host[HOST_NAME_MAX + 1] = {};
  ::gethostname(host, sizeof host - 1);
  std::string name(host[0] ? host : "localhost");
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    if (c >= 'A' && c <= 'Z') return static_cast<char>(c - 'A' + 'a');
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ? c : '-';
  });
  return "iqn.2026-01.io.tcmu-clone:" + name;
}

struct IscsiSession::Retries {
  unsigned attentions = 0;
  Scheduler::Duration next = kFirstPause;
  Scheduler::Duration pause{};  // Before the next try.
  Scheduler::TimePoint give_up;
};

struct IscsiSession::Request {
  Request(IscsiSession& session, const ScsiCommand& wanted, std::span<std::byte> into)
      : owner(session), command(wanted), buffer(into) {
    if (owner.requests_.empty()) owner.watch_progress();
    place = owner.requests_.insert(owner.requests_.end(), this);
    std::array<unsigned char, 16> block = wanted.block;
    task = scsi_create_task(wanted.length, block.data(),
                            into.empty() ? SCSI_XFER_NONE : SCSI_XFER_READ,
                            static_cast<int>(into.size()));
    piece = {into.data(), into.size()};
    if (task && !into.empty()) scsi_task_set_iov_in(task, &piece, 1);
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request() {
    if (task) scsi_free_scsi_task(task);
    owner.requests_.erase(place);
  }

  IscsiSession& owner;
  const ScsiCommand command;
  const std::span<std::byte> buffer;
  std::list<Request*>::iterator place;
  scsi_task* task = nullptr;  // libiscsi's until done, or until its context is destroyed.
  scsi_iovec piece{};
  int status = SCSI_STATUS_ERROR;
  Event done;
};

struct IscsiSession::Watchdog : Scheduler::Timer {
  explicit Watchdog(IscsiSession& session) : Timer(&bark), owner(session) {}
  static void bark(Timer& timer) {
    auto& self = static_cast<Watchdog&>(timer);
    self.armed = false;
    self.owner.on_watchdog();
  }
  IscsiSession& owner;
  bool armed = false;
};

void IscsiSession::ContextDestroyer::operator()(iscsi_context* context) const {
  iscsi_destroy_context(context);
}

IscsiSession::IscsiSession(Reactor& reactor, IscsiUrl url, std::string name,
                           Scheduler::Duration patience)
    : reactor_(reactor),
      url_(std::move(url)),
      name_(std::move(name)),
      patience_(patience),
      watchdog_(std::make_unique<Watchdog>(*this)) {}

IscsiSession::~IscsiSession() { assert(!context_ && gate_.idle() && "close() it first"); }

Task<Result<>> IscsiSession::connect() {
  const auto inside = gate_.enter();
  phase_ = Phase::connecting;
  watch_progress();
  Place place{url_.host, url_.port};
  for (int moves = 0; login_ != Login::done && !stopping(); ++moves) {
    auto reached = co_await reach(place);
    if (!reached) note_failure(reached.error().context);
    if (login_ == Login::done) break;
    if (moves == kMostMoves) note_failure("the target moves us on and on");
    if (login_ != Login::moved || moves == kMostMoves || !moved_to(place)) broken_ = true;
  }
  if (stopping()) {
    tear_down();
    const Error error = lost_error();
    co_return fail(error);
  }
  phase_ = Phase::ready;
  was_ready_ = true;
  spawn(pump());
  co_return Result<>();
}

// Every address of the place, until one lets us in or says where else to go.
Task<Result<>> IscsiSession::reach(Place place) {
  auto addresses = co_await look_up(place.host);
  if (!addresses) co_return fail(addresses.error());
  for (const std::string& address : *addresses) {
    if (stopping()) break;
    std::string portal = fmt::format("{}:{}", address, place.port);
    co_await log_in(std::move(portal));
    if (login_ == Login::done || login_ == Login::moved) co_return Result<>();
    if (refused_) break;
  }
  co_return fail(Errc::unavailable, attempt_);
}

Task<Result<std::vector<std::string>>> IscsiSession::look_up(std::string host) {
  auto lookup = HostLookup::start(host);
  if (!lookup) co_return fail(lookup.error());
  Reactor::Watch watch(reactor_, (*lookup)->fd());
  watch_ = &watch;
  co_await watch.wait(POLLIN, Scheduler::TimePoint::max());
  watch_ = nullptr;
  if (!(*lookup)->finished()) co_return fail(Errc::unavailable, "its name cannot be looked up");
  co_return (*lookup)->take();
}

Result<> IscsiSession::make_context() {
  const std::string initiator = url_.initiator.empty() ? default_iscsi_initiator() : url_.initiator;
  context_.reset(iscsi_create_context(initiator.c_str()));
  iscsi_context* c = context_.get();
  if (!c) return fail(Errc::unavailable, "no memory for a session");
  iscsi_set_noautoreconnect(c, 1);
  // Two sessions with one name and one number would throw each other out.
  iscsi_set_isid_random(c, static_cast<std::uint32_t>(random_()) & 0xffffff,
                        static_cast<std::uint32_t>(random_()) & 0xffff);
  iscsi_set_tcp_keepidle(c, 15);  // Notices within half a minute that a silent peer has gone.
  iscsi_set_tcp_keepintvl(c, 5);
  iscsi_set_tcp_keepcnt(c, 3);
  iscsi_set_session_type(c, ISCSI_SESSION_NORMAL);
  iscsi_set_targetname(c, url_.target.c_str());
  if (url_.header_digest) iscsi_set_header_digest(c, ISCSI_HEADER_DIGEST_CRC32C);
  if (!url_.user.empty()) {
    iscsi_set_initiator_username_pwd(c, url_.user.c_str(), url_.secret.c_str());
  }
  if (!url_.target_user.empty()) {
    iscsi_set_target_username_pwd(c, url_.target_user.c_str(), url_.target_secret.c_str());
  }
  return {};
}

// Numeric, so that getaddrinfo(3) inside iscsi_connect_async answers at once.
Task<> IscsiSession::log_in(std::string portal) {
  attempt_.clear();
  login_ = Login::failed;
  if (make_context() &&
      iscsi_connect_async(context_.get(), portal.c_str(), &on_connected, this) == 0) {
    login_ = Login::under_way;
  }
  while (login_ == Login::under_way && !stopping()) co_await turn();
  if (attempt_.empty()) attempt_ = library_error();
}

void IscsiSession::on_connected(iscsi_context* context, int status, void*, void* self) {
  auto& session = *static_cast<IscsiSession*>(self);
  if (status != SCSI_STATUS_GOOD || iscsi_login_async(context, &on_login, self) != 0) {
    session.login_ = Login::failed;
    session.attempt_ = session.library_error();  // It will soon be overwritten.
  }
}

void IscsiSession::on_login(iscsi_context* context, int status, void*, void* self) {
  auto& session = *static_cast<IscsiSession*>(self);
  if (status == SCSI_STATUS_GOOD) {
    session.login_ = Login::done;
    return;
  }
  // libiscsi itself knows only "moved temporarily"; a permanent move comes as an error.
  const bool moved = *iscsi_get_target_address(context) != '\0';
  session.login_ = moved ? Login::moved : Login::failed;
  const std::string_view why = iscsi_get_error(context);
  for (const char* word : {"uthentication", "uthorization", "CHAP"}) {
    if (why.find(word) != std::string_view::npos) session.refused_ = true;
  }
}

// "host:port,group", "[::1]:port"; the group is of no use to us.
bool IscsiSession::moved_to(Place& place) const {
  std::string_view address = iscsi_get_target_address(context_.get());
  address = address.substr(0, address.find(','));
  const bool bracket = address.starts_with('[');
  const std::size_t end = std::min(address.find(bracket ? ']' : ':'), address.size());
  place.host = address.substr(bracket ? 1 : 0, end - (bracket ? 1 : 0));
  place.port = 3260;
  const std::size_t colon = address.find(':', end);
  if (colon != std::string_view::npos) {
    std::from_chars(address.data() + colon + 1, address.data() + address.size(), place.port);
  }
  return !place.host.empty() && place.port != 0;
}

Task<> IscsiSession::pump() {
  const auto inside = gate_.enter();
  while (!stopping()) co_await turn();
  tear_down();
}

Task<> IscsiSession::turn() {
  const auto events = static_cast<short>(iscsi_which_events(context_.get()));
  Reactor::Watch watch(reactor_, iscsi_get_fd(context_.get()));
  watch_ = &watch;
  const int happened = co_await watch.wait(events, Scheduler::TimePoint::max());
  watch_ = nullptr;
  if (!stopping() && happened != 0) serve(happened);
}

void IscsiSession::serve(int events) {
  const bool failed = iscsi_service(context_.get(), events) != 0;
  if (phase_ == Phase::connecting) {
    if (failed && login_ == Login::under_way) login_ = Login::failed;
  } else if (failed || !iscsi_is_logged_in(context_.get())) {
    break_off(library_error());
  }
}

Task<Result<>> IscsiSession::ask(ScsiCommand command, std::span<std::byte> buffer) {
  return run(command, buffer, false);
}

Task<Result<>> IscsiSession::read(ScsiCommand command, std::span<std::byte> buffer) {
  return run(command, buffer, true);
}

Task<Result<>> IscsiSession::run(ScsiCommand command, std::span<std::byte> buffer, bool whole) {
  const auto inside = gate_.enter();
  Retries retries;
  retries.give_up = reactor_.now() + patience_;
  while (usable()) {
    std::optional<ReadMarks> marks;
    if (whole) marks.emplace(random_(), buffer);
    Request request(*this, command, buffer);
    if (!issue(request)) break;
    co_await request.done.wait();
    auto finished = judge(request, retries, whole);
    if (!finished) co_return fail(finished.error());
    if (*finished && marks && !marks->gone()) {
      const Error error = origin_error(request, "the target sent less than was asked for");
      co_return fail(error);
    }
    if (*finished) co_return Result<>();
    const Scheduler::TimePoint next = reactor_.now() + retries.pause;
    if (retries.pause.count() > 0) co_await stop_.wait_until(next);
  }
  const Error error = lost_error();
  co_return fail(error);
}

// Sends at once what can be sent. The pump has to know what could not, or what broke by it.
bool IscsiSession::issue(Request& request) {
  iscsi_context* c = context_.get();
  // Flat addressing above 255 (SAM-5, 4.7.7.3), as libiscsi sends the number as it gets it.
  const int lun = url_.lun < 256 ? url_.lun : 0x4000 | url_.lun;
  if (!request.task ||
      iscsi_scsi_command_async(c, lun, request.task, &on_answer, nullptr, &request) != 0) {
    break_off(library_error());
    return false;
  }
  serve(POLLOUT);
  if (!stopping() && (iscsi_which_events(c) & POLLOUT)) wake();
  return true;
}

void IscsiSession::on_answer(iscsi_context* context, int status, void*, void* data) {
  auto& request = *static_cast<Request*>(data);
  if (status == SCSI_STATUS_CHECK_CONDITION) {
    request.owner.old_sense_ = iscsi_get_error(context);
  } else if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR) {
    // libiscsi has given the connection up; it says so only to whoever waits.
    if (!request.owner.stopping()) request.owner.break_off(request.owner.library_error());
  }
  request.owner.complete(request, status);
}

void IscsiSession::complete(Request& request, int status) {
  if (request.done.is_set()) return;
  request.status = status;
  last_progress_ = reactor_.now();
  request.done.set();
}

// True: done. False: to be tried again, after a pause.
Result<bool> IscsiSession::judge(const Request& request, Retries& retries, bool whole) {
  if (!usable()) return fail(lost_error());
  retries.pause = {};
  switch (request.status) {
    case SCSI_STATUS_GOOD:
    case SCSI_STATUS_CONDITION_MET:
      if (whole && request.task->residual_status != SCSI_RESIDUAL_NO_RESIDUAL) {
        return fail(origin_error(request, "the target sent less than was asked for"));
      }
      return true;
    case SCSI_STATUS_CHECK_CONDITION:
      return judge_sense(request, retries);
    case SCSI_STATUS_BUSY:
    case SCSI_STATUS_TASK_SET_FULL:
    case SCSI_STATUS_ACA_ACTIVE:
    case SCSI_STATUS_TASK_ABORTED:
      if (reactor_.now() >= retries.give_up)
        return fail(give_up("the target says that it is busy"));
      retries.pause = pause(retries);
      return false;
    case SCSI_STATUS_RESERVATION_CONFLICT:
      return fail(give_up("another initiator has reserved the LUN"));
    default:
      return fail(origin_error(request, fmt::format("SCSI status {}", request.status)));
  }
}

Result<bool> IscsiSession::judge_sense(const Request& request, Retries& retries) {
  const scsi_sense& sense = request.task->sense;
  const std::string why = old_sense_;
  switch (sense.key) {
    case SCSI_SENSE_RECOVERED_ERROR:
      return true;
    case SCSI_SENSE_UNIT_ATTENTION:
      if (means_other_content(sense.ascq)) return fail(give_up("the LUN has changed: " + why));
      if (++retries.attentions > kMostAttentions) return fail(give_up("no end of: " + why));
      return false;
    case SCSI_SENSE_NOT_READY:
      if (sense.ascq >> 8 == kNoMedium) refused_ = true;
      return fail(give_up("the LUN is not ready: " + why));
    default:
      if (means_gone(sense.ascq)) return fail(give_up("the LUN has changed: " + why));
      return fail(origin_error(request, why));
  }
}

Error IscsiSession::origin_error(const Request& request, const std::string& why) const {
  const auto operation = static_cast<unsigned>(request.command.block[0]);
  std::string what = fmt::format("SCSI command {:#04x}", operation);
  if (operation == 0x88) {
    std::uint64_t first = 0;
    for (int i = 2; i < 10; ++i)
      first = first << 8 | request.command.block[static_cast<unsigned>(i)];
    what = fmt::format("read of {} bytes at sector {}", request.buffer.size(), first);
  }
  return {make_error_code(Errc::origin_read),
          origin_sentence(name_, fmt::format("origin {}: {}: {}", name_, what, why))};
}

// The others have no better luck: whoever connects again looks at all of it anew.
Error IscsiSession::give_up(std::string why) {
  break_off(std::move(why));
  return lost_error();
}

Scheduler::Duration IscsiSession::pause(Retries& retries) const {
  const Scheduler::Duration now = retries.next;
  retries.next = std::min<Scheduler::Duration>(retries.next * 2, kLongestPause);
  return now;
}

void IscsiSession::watch_progress() {
  last_progress_ = reactor_.now();
  if (watchdog_->armed) return;
  watchdog_->armed = true;
  reactor_.arm(*watchdog_, last_progress_ + patience_);
}

void IscsiSession::on_watchdog() {
  if (stopping() || phase_ == Phase::torn_down) return;
  if (phase_ == Phase::ready && requests_.empty()) return;  // The next request arms it again.
  const Scheduler::TimePoint due = last_progress_ + patience_;
  if (reactor_.now() < due) {
    watchdog_->armed = true;
    reactor_.arm(*watchdog_, due);
    return;
  }
  const auto ms = std::chrono::duration_cast<milliseconds>(patience_).count();
  break_off(fmt::format("no answer for {}.{:03} s", ms / 1000, ms % 1000));
}

void IscsiSession::break_off(std::string why) {
  note_failure(why);
  broken_ = true;
  stop_.set();
  wake();
}

void IscsiSession::note_failure(const std::string& why) {
  if (failure_.empty()) failure_ = why;
}

// libiscsi says nothing new when the peer has closed the connection.
std::string IscsiSession::library_error() const {
  const std::string text = context_ ? iscsi_get_error(context_.get()) : "";
  const bool nothing_new =
      text.empty() || text == old_sense_ || text.find("Can not reconnect") != std::string::npos;
  if (nothing_new) return "the target closed the connection";
  constexpr std::string_view kFunction = "iscsi_service: ";
  return text.starts_with(kFunction) ? text.substr(kFunction.size()) : text;
}

Error IscsiSession::lost_error() const {
  const std::string why = failure_.empty() ? "closed" : failure_;
  return {make_error_code(refused_ ? Errc::refused : Errc::unavailable),
          origin_sentence(name_, fmt::format("origin {}: {}", name_, why))};
}

void IscsiSession::wake() {
  if (watch_) watch_->wake();
}

void IscsiSession::tear_down() {
  const bool goodbye = closing_ && !broken_ && phase_ == Phase::ready;
  phase_ = Phase::torn_down;
  if (goodbye) {  // A word to the target, no waiting for its answer.
    const auto ignore = [](iscsi_context*, int, void*, void*) {};
    if (iscsi_logout_async(context_.get(), ignore, nullptr) == 0) {
      iscsi_service(context_.get(), POLLOUT);
    }
  }
  context_.reset();  // From here on libiscsi writes to no buffer, and only now may requests end.
  for (Request* request : requests_) complete(*request, SCSI_STATUS_CANCELLED);
  reactor_.disarm(*watchdog_);
  watchdog_->armed = false;
}

void IscsiSession::stop() {
  closing_ = true;
  stop_.set();
  wake();
}

Task<> IscsiSession::close() {
  stop();
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
