// A libnbd handle on its way to its socket.
//
// nbd_aio_connect_uri(3) is asynchronous but for one thing: its getaddrinfo(3) blocks, for half a
// minute when DNS is gone. So a thread of its own makes that call and rings; nobody waits for the
// thread. Whoever loses interest destroys the dial: the thread then ends by itself, when the
// resolver lets it, and touches nothing but its own job.
//
// Thread: any, one at a time.
#pragma once

#include <libnbd.h>

#include <memory>
#include <string>

#include "clonedev/error.h"

namespace clonedev {

struct NbdCloser {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};
using NbdHandle = std::unique_ptr<nbd_handle, NbdCloser>;

class NbdDial {
 public:
  static Result<std::unique_ptr<NbdDial>> start(const std::string& uri);

  // Becomes readable when the call has returned.
  int fd() const;
  bool finished() const;
  // Once, when finished. The handshake is still to be driven by its socket. Errc::bad_config: the
  // URI is not one; Errc::unavailable: name or socket cannot be reached.
  Result<NbdHandle> take();

 private:
  struct Job;
  explicit NbdDial(std::shared_ptr<Job> job) : job_(std::move(job)) {}

  std::shared_ptr<Job> job_;
};

}  // namespace clonedev
