// A descriptor that turns readable when somebody rings: how other threads wake a reactor that waits
// in the kernel.
//
// Thread: ring() any; the rest the reactor's. Ringing twice before silence() is ringing once.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

namespace clonedev {

class Doorbell {
 public:
  Doorbell() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;
  ~Doorbell() {
    if (fd_ >= 0) ::close(fd_);
  }

  int fd() const { return fd_; }  // Below 0: there was none left, as errno says.
  void ring() const { eventfd_write(fd_, 1); }
  void silence() const {
    eventfd_t rings = 0;
    eventfd_read(fd_, &rings);
  }

 private:
  int fd_;
};

}  // namespace clonedev
