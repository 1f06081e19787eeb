#include "origin/host_lookup.h"

#include <netdb.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "clonedev/service_thread.h"

namespace clonedev {

struct HostLookup::Job {
  explicit Job(std::string name) : host(std::move(name)), bell(::eventfd(0, EFD_CLOEXEC)) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() {
    if (bell >= 0) ::close(bell);
  }

  void run();
  void ask();

  const std::string host;
  const int bell;
  // Written by the thread, read by the other side once finished.
  std::vector<std::string> addresses;
  std::string error;
  std::atomic<bool> finished = false;
};

void HostLookup::Job::ask() {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); failed != 0) {
    error = failed == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(failed);
    return;
  }
  for (const addrinfo* one = found; one; one = one->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, nullptr, 0,
                      NI_NUMERICHOST) == 0) {
      addresses.push_back(one->ai_family == AF_INET6 ? "[" + std::string(text) + "]" : text);
    }
  }
  ::freeaddrinfo(found);
  if (addresses.empty()) error = "it has no address";
}

void HostLookup::Job::run() {
  ask();
  finished.store(true, std::memory_order_release);
  eventfd_write(bell, 1);
}

Result<std::unique_ptr<HostLookup>> HostLookup::start(const std::string& host) {
  auto job = std::make_shared<Job>(host);
  if (job->bell < 0) return fail(Errc::unavailable, std::strerror(errno));
  try {
    start_service_thread("clone-lookup", Rights::files, [job] { job->run(); }).detach();
  } catch (const std::system_error& e) {
    return fail(Errc::unavailable, std::string("no thread to resolve its name: ") + e.what());
  }
  return std::unique_ptr<HostLookup>(new HostLookup(std::move(job)));
}

int HostLookup::fd() const { return job_->bell; }

bool HostLookup::finished() const { return job_->finished.load(std::memory_order_acquire); }

Result<std::vector<std::string>> HostLookup::take() {
  if (!job_->error.empty()) return fail(Errc::unavailable, job_->host + ": " + job_->error);
  return std::move(job_->addresses);
}

}  // namespace clonedev
