// Keeps the calling thread from being cancelled while it is inside the handler.
//
// The runner ends its threads by pthread_cancel, which unwinds C++ frames by force; a callout must
// not be left half way. Frames below this guard need no care of their own.
#pragma once

#include <pthread.h>

namespace clonedev {

class CancelGuard {
 public:
  CancelGuard() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~CancelGuard() { pthread_setcancelstate(before_, nullptr); }
  CancelGuard(const CancelGuard&) = delete;
  CancelGuard& operator=(const CancelGuard&) = delete;

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace clonedev
