// libcurl's multi interface on the reactor: transfers share connections, nothing blocks.
//
// Each socket that libcurl names has a coroutine that polls it and tells libcurl what happened; its
// one timer is a timer of the scheduler. Names are resolved by a thread of libcurl's own.
//
// I14, buffers: a transfer is taken out of the multi handle first and only then ends for whoever
// awaits it, so no callback of it comes later, whatever ended it.
//
// Watchdog: a transfer that has received nothing for `patience` ends with
// CURLE_OPERATION_TIMEDOUT.
//
// Thread: the reactor's. Ownership: close() has ended before it is destroyed.
#pragma once

#include <curl/curl.h>

#include <list>
#include <memory>

#include "io/event.h"
#include "io/reactor.h"
#include "io/task.h"

namespace clonedev {

// One easy handle on its way. The owner sets last_progress whenever something came.
struct HttpTransfer {
  CURL* easy = nullptr;
  Scheduler::TimePoint last_progress;
  CURLcode result = CURLE_OK;
  Event done;
};

class HttpMulti {
 public:
  HttpMulti(Reactor& reactor, Scheduler::Duration patience, long most_connections);
  HttpMulti(const HttpMulti&) = delete;
  HttpMulti& operator=(const HttpMulti&) = delete;
  ~HttpMulti();

  // To its end, however it ends. CURLE_ABORTED_BY_CALLBACK: stop() was called.
  Task<CURLcode> perform(HttpTransfer& transfer);
  // Ends every transfer at once, also those to come.
  void stop();
  Task<> close();

 private:
  struct Socket;
  struct CurlTimer;
  struct Watchdog;

  bool begin();
  static int on_socket(CURL* easy, curl_socket_t fd, int what, void* self, void* socket);
  static int on_timer(CURLM* multi, long timeout_ms, void* self);
  Task<> serve(Socket* socket);
  void act(curl_socket_t fd, int events);
  void finish(HttpTransfer& transfer, CURLcode result);
  void bark();
  void arm_watchdog();

  Reactor& reactor_;
  const Scheduler::Duration patience_;
  const long most_connections_;
  CURLM* multi_ = nullptr;  // From the first transfer to close().
  bool stopped_ = false;
  std::list<HttpTransfer*> transfers_;
  std::unique_ptr<CurlTimer> timer_;
  std::unique_ptr<Watchdog> watchdog_;
  Gate gate_;
};

}  // namespace clonedev
