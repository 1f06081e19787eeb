#include "handler.h"

#include <sys/prctl.h>
#include <syslog.h>

#include <cerrno>
#include <cstring>

#include "control_commands.h"
#include "runner_log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57  // Linux 5.6; older headers lack the name.
#endif

namespace clonedev {
namespace {

// On a loopback LUN the initiator's dirty pages are ours to write back: were we to wait for memory
// that only their write-back can free, both would wait for ever. Threads inherit this, so it is set
// on the main thread before any LUN is opened.
void become_io_flusher() {
  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0) return;
  runner_log(LOG_WARNING, std::string("PR_SET_IO_FLUSHER: ") + std::strerror(errno) +
                              ": a loopback LUN may hang when memory is short: the daemon needs "
                              "CAP_SYS_RESOURCE");
}

std::string answer(LunRegistry& registry, std::string_view line, bool privileged) {
  try {
    return answer_control_line(registry, line, privileged);
  } catch (const std::exception& error) {
    return control_refusal(std::string("request: ") + error.what() + ": try again", false);
  }
}

}  // namespace

Handler& Handler::instance() {
  static auto* const handler = new Handler;
  return *handler;
}

Handler::Handler() : site_(HandlerSite::from_environment()) {}

void Handler::start() {
  become_io_flusher();
  control_ = std::make_unique<ControlService>(site_.socket_path,
                                              [this](std::string_view line, bool privileged) {
                                                return answer(registry_, line, privileged);
                                              });
  if (const Result<> started = control_->start(); !started) {
    runner_log(LOG_ERR, started.error().message());
    control_.reset();
  }
  runner_log(LOG_INFO, "tcmu-clone " CLONEDEV_VERSION " is ready, control socket " +
                           (control_ ? site_.socket_path : std::string("none")));
}

void Handler::stop() { control_.reset(); }

}  // namespace clonedev
