#include "origin/nbd_dial.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string_view>
#include <system_error>
#include <utility>

#include "clonedev/service_thread.h"
#include "origin/origin_name.h"

namespace clonedev {

namespace {

// The value of `key` in the query of a URI, or empty. Not decoded: a path that needs escapes is
// then not found, which refuses, and never the other way round.
std::string query_value(const std::string& uri, const std::string& key) {
  std::size_t at = uri.find('?');
  while (at != std::string::npos) {
    const std::size_t end = std::min(uri.find_first_of("&;#", at + 1), uri.size());
    const std::string_view pair = std::string_view(uri).substr(at + 1, end - at - 1);
    if (pair.starts_with(key + "=")) return std::string(pair.substr(key.size() + 1));
    at = end < uri.size() && uri[end] != '#' ? end : std::string::npos;
  }
  return {};
}

// libnbd before 1.20.3 believes any certificate when it has no authority to check it against, and
// says nothing (CVE-2024-7383): neither given, nor in the folder that was given.
constexpr const char* kUnverified =
    "nbds:// needs tls-certificates=DIR with a readable ca-cert.pem in it, or tls-psk-file=FILE: "
    "without, nobody would check who answers";

bool server_is_verified(const std::string& uri) {
  if (!uri.starts_with("nbds")) return true;
  if (!query_value(uri, "tls-psk-file").empty()) return true;
  const std::string folder = query_value(uri, "tls-certificates");
  return !folder.empty() && ::access((folder + "/ca-cert.pem").c_str(), R_OK) == 0;
}

std::atomic<unsigned> threads_under_way = 0;

}  // namespace

short nbd_wanted_events(nbd_handle* handle) {
  const unsigned direction = nbd_aio_get_direction(handle);
  int events = 0;
  if (direction & LIBNBD_AIO_DIRECTION_READ) events |= POLLIN;
  if (direction & LIBNBD_AIO_DIRECTION_WRITE) events |= POLLOUT;
  return static_cast<short>(events);
}

int nbd_step(nbd_handle* handle, int happened) {
  const unsigned direction = nbd_aio_get_direction(handle);
  const bool readable = (happened & (POLLIN | POLLHUP | POLLERR)) != 0;
  // One call only: it may change what the other one would mean. An error on the socket is
  // reported by whichever call libnbd waits for.
  if ((direction & LIBNBD_AIO_DIRECTION_READ) && readable) return nbd_aio_notify_read(handle);
  if (direction & LIBNBD_AIO_DIRECTION_WRITE) return nbd_aio_notify_write(handle);
  return 0;
}

struct NbdDial::Job {
  explicit Job(std::string to)
      : uri(std::move(to)), bell(::eventfd(0, EFD_CLOEXEC)), abandoned(::eventfd(0, EFD_CLOEXEC)) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() {
    for (const int fd : {bell, abandoned}) {
      if (fd >= 0) ::close(fd);
    }
  }

  void run();
  bool prepare();
  void connect();
  void shake_hands();
  int step(int happened);
  void abandon();
  void give_up(const char* why);

  const std::string uri;
  const int bell;
  const int abandoned;  // Readable when nobody wants the handle any more.
  // Written by the thread, read by the other side once finished.
  NbdHandle handle;
  std::string error;
  bool bad_uri = false;
  std::atomic<bool> finished = false;

  std::mutex mutex;
  bool gone = false;  // protected by mutex
  int socket = -1;    // protected by mutex; a second descriptor of it, while libnbd is at it
};

bool NbdDial::Job::prepare() {
  handle.reset(nbd_create());
  nbd_handle* h = handle.get();
  // pread_initialize: the answers' coverage is checked instead of clearing each buffer first.
  return h && nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 &&
         nbd_set_uri_allow_transports(
             h, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) == 0 &&
         nbd_set_uri_allow_local_file(h, true) == 0 && nbd_set_pread_initialize(h, false) == 0;
}

void NbdDial::Job::run() {
  connect();
  if (handle) shake_hands();
  finished.store(true, std::memory_order_release);
  eventfd_write(bell, 1);
}

void NbdDial::Job::connect() {
  if (!server_is_verified(uri)) {
    bad_uri = true;
    return give_up(kUnverified);
  }
  const bool prepared = prepare();
  if (prepared && nbd_aio_connect_uri(handle.get(), uri.c_str()) == 0) return;
  bad_uri = prepared && (nbd_get_errno() == EINVAL || nbd_get_errno() == EPERM);
  give_up(nbd_get_error());
}

void NbdDial::Job::shake_hands() {
  nbd_handle* h = handle.get();
  while (!nbd_aio_is_ready(h)) {
    const short events = nbd_wanted_events(h);
    if (events == 0) return give_up("the server closed the connection");
    // The descriptor anew each time: libnbd goes from one address and socket to the next.
    pollfd sources[] = {{nbd_aio_get_fd(h), events, 0}, {abandoned, POLLIN, 0}};
    if (::poll(sources, 2, -1) < 0 && errno != EINTR) return give_up(std::strerror(errno));
    if (sources[1].revents != 0) return give_up("closed");
    if (sources[0].revents != 0 && step(sources[0].revents) == -1) return give_up(nbd_get_error());
  }
}

int NbdDial::Job::step(int happened) {
  {
    const std::lock_guard lock(mutex);
    if (gone) return -1;
    socket = ::fcntl(nbd_aio_get_fd(handle.get()), F_DUPFD_CLOEXEC, 0);
  }
  const int result = nbd_step(handle.get(), happened);
  const std::lock_guard lock(mutex);
  if (socket >= 0) ::close(std::exchange(socket, -1));
  return result;
}

// GnuTLS waits for the socket alone, so that has to end.
void NbdDial::Job::abandon() {
  eventfd_write(abandoned, 1);
  const std::lock_guard lock(mutex);
  gone = true;
  if (socket >= 0) ::shutdown(socket, SHUT_RDWR);
}

// libnbd keeps its errors for each thread.
void NbdDial::Job::give_up(const char* why) {
  error = why ? why : "cannot be reached";
  handle.reset();
}

Result<std::unique_ptr<NbdDial>> NbdDial::start(const std::string& uri) {
  auto job = std::make_shared<Job>(uri);
  const auto refused = [&uri](const std::string& why) {
    return fail(Errc::unavailable, "origin " + origin_name(uri) + ": " + why);
  };
  if (job->bell < 0 || job->abandoned < 0) return refused(std::strerror(errno));
  try {
    ++threads_under_way;
    start_service_thread("clone-dial", Rights::files, [job]() mutable {
      job->run();
      job.reset();
      --threads_under_way;
    }).detach();
  } catch (const std::system_error& e) {
    --threads_under_way;
    return refused(std::string("no thread to resolve its name: ") + e.what());
  }
  return std::unique_ptr<NbdDial>(new NbdDial(std::move(job)));
}

NbdDial::~NbdDial() { job_->abandon(); }

unsigned NbdDial::under_way() { return threads_under_way; }

int NbdDial::fd() const { return job_->bell; }

bool NbdDial::finished() const { return job_->finished.load(std::memory_order_acquire); }

Result<NbdHandle> NbdDial::take() {
  if (job_->handle) return std::move(job_->handle);
  return fail(job_->bad_uri ? Errc::bad_config : Errc::unavailable, job_->error);
}

}  // namespace clonedev
