#include "support/plugin_site.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

// AddressSanitizer asks the program for this. Its record of the thread-local memory of libraries
// that a plugin brings along (libnbd's, here) goes wrong, and the search for leaks at the end then
// crashes on it.
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options();
const char* __asan_default_options() { return "intercept_tls_get_addr=0"; }

namespace clonedev::testing {

PluginSite::PluginSite(const std::string& plugin, const std::string& memory) {
  if (::mkdtemp(folder_.data()) == nullptr) std::abort();
  run_dir_ = memory.empty() ? folder_ + "/run" : memory + "/clone-host-XXXXXX";
  if (!memory.empty() && ::mkdtemp(run_dir_.data()) == nullptr) std::abort();
  ::setenv("TCMU_CLONE_STATE_DIR", (folder_ + "/state").c_str(), 1);
  ::setenv("TCMU_CLONE_RUN_DIR", run_dir_.c_str(), 1);
  ::setenv("TCMU_CLONE_CONF_DIR", (folder_ + "/conf").c_str(), 1);
  ::setenv("TCMU_CLONE_SYS_DIR", (folder_ + "/sys").c_str(), 1);
  for (const char* name : {"/state", "/conf", "/sys"}) {
    std::filesystem::create_directory(folder_ + name);
  }
  std::filesystem::create_directory(run_dir_);
  handler_ = load_handler(plugin);
}

PluginSite::~PluginSite() {
  if (handler_ != nullptr) handler_->destroy();
  std::filesystem::remove_all(run_dir_);
  std::filesystem::remove_all(folder_);
}

std::string PluginSite::ask_control(const std::string& line) const {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = run_dir_ + "/control.sock";
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  std::string reply;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    static_cast<void>(::send(fd, line.data(), line.size(), MSG_NOSIGNAL));
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(fd, buffer, sizeof buffer)) > 0;) {
      reply.append(buffer, static_cast<std::size_t>(got));
    }
  }
  ::close(fd);
  return reply;
}

}  // namespace clonedev::testing
