// A libnbd handle on its way to a server that has shaken hands.
//
// nbd_aio_connect_uri(3) is asynchronous but for two things. Its getaddrinfo(3) blocks, for half a
// minute when DNS is gone. And libnbd gives GnuTLS a time-out for the handshake, with which GnuTLS
// waits in poll(2) even for a socket that does not block: 40 s (GNUTLS_DEFAULT_HANDSHAKE_TIMEOUT)
// when the server has stopped in mid-handshake. So a thread of its own does all that and rings;
// nobody waits for the thread. Whoever loses interest destroys the dial: the thread then ends by
// itself, at once but for a resolver that hangs, and touches nothing but its own job.
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

// What poll(2) is to wait for; 0: the handle is dead or closed.
short nbd_wanted_events(nbd_handle* handle);
// Lets libnbd go on after poll(2). -1: nbd_get_error(3) says why not.
int nbd_step(nbd_handle* handle, int happened);

class NbdDial {
 public:
  NbdDial(const NbdDial&) = delete;
  NbdDial& operator=(const NbdDial&) = delete;
  ~NbdDial();
  static Result<std::unique_ptr<NbdDial>> start(const std::string& uri);

  // Threads of this process that still dial, wanted or not.
  static unsigned under_way();

  // Becomes readable when there is a handle, or none to be had.
  int fd() const;
  bool finished() const;
  // Once, when finished: a handle that is ready. Errc::bad_config: the URI is not one;
  // Errc::unavailable: name or socket cannot be reached, or the handshake failed.
  Result<NbdHandle> take();

 private:
  struct Job;
  explicit NbdDial(std::shared_ptr<Job> job) : job_(std::move(job)) {}

  std::shared_ptr<Job> job_;
};

}  // namespace clonedev
