#include "origin/nbd_dial.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "clonedev/service_thread.h"
#include "origin/origin_name.h"

namespace clonedev {

struct NbdDial::Job {
  explicit Job(std::string to) : uri(std::move(to)), bell(::eventfd(0, EFD_CLOEXEC)) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() {
    if (bell >= 0) ::close(bell);
  }

  void run();
  bool prepare();

  const std::string uri;
  const int bell;
  // Written by the thread, read by the other side once finished.
  NbdHandle handle;
  std::string error;
  bool bad_uri = false;
  std::atomic<bool> finished = false;
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
  const bool prepared = prepare();
  if (!prepared || nbd_aio_connect_uri(handle.get(), uri.c_str()) == -1) {
    const char* text = nbd_get_error();  // Of this thread.
    error = text ? text : "cannot be reached";
    bad_uri = prepared && (nbd_get_errno() == EINVAL || nbd_get_errno() == EPERM);
    handle.reset();
  }
  finished.store(true, std::memory_order_release);
  eventfd_write(bell, 1);
}

Result<std::unique_ptr<NbdDial>> NbdDial::start(const std::string& uri) {
  auto job = std::make_shared<Job>(uri);
  const auto refused = [&uri](const std::string& why) {
    return fail(Errc::unavailable, "origin " + origin_name(uri) + ": " + why);
  };
  if (job->bell < 0) return refused(std::strerror(errno));
  try {
    start_service_thread("clone-dial", Rights::files, [job] { job->run(); }).detach();
  } catch (const std::system_error& e) {
    return refused(std::string("no thread to resolve its name: ") + e.what());
  }
  return std::unique_ptr<NbdDial>(new NbdDial(std::move(job)));
}

int NbdDial::fd() const { return job_->bell; }

bool NbdDial::finished() const { return job_->finished.load(std::memory_order_acquire); }

Result<NbdHandle> NbdDial::take() {
  if (job_->handle) return std::move(job_->handle);
  return fail(job_->bad_uri ? Errc::bad_config : Errc::unavailable, job_->error);
}

}  // namespace clonedev
