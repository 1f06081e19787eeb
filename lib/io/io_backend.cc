#include "io/io_backend.h"

#include <cstdlib>
#include <string>
#include <string_view>

#include "core/log.h"

namespace clonedev {

Result<std::unique_ptr<IoBackend>> make_io_backend() {
  const char* const variable = std::getenv("TCMU_CLONE_IO");
  const std::string_view wanted = variable ? variable : "";
  if (wanted == "threads") return make_thread_backend();
  if (wanted == "io_uring") return make_ring_backend();
  if (!wanted.empty()) {
    return fail(Errc::bad_config, "TCMU_CLONE_IO=" + std::string(wanted) +
                                      ": is neither io_uring nor threads: correct or unset it");
  }
  auto ring = make_ring_backend();
  if (ring) return ring;
  log_line(LOG_NOTICE, "{}: I/O goes through a pool of threads instead", ring.error().message());
  return make_thread_backend();
}

}  // namespace clonedev
