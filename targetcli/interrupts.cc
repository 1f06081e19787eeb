#include "interrupts.h"

#include <csignal>

#include "command_error.h"

namespace clonectl {
namespace {

volatile std::sig_atomic_t interrupted = 0;

}  // namespace

Interrupts::Interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

void Interrupts::check() const {
  if (interrupted != 0) throw CommandError(ExitCode::failed, "interrupted");
}

}  // namespace clonectl
