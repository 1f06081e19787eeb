// The real handler_clone.so in a stand-in host, with folders of its own. One a program: the handler
// reads its environment once.
#pragma once

#include <string>

#include "support/runner_host.h"

namespace clonedev::testing {

class PluginSite {
 public:
  // A short path on the build's own disk: /tmp may be a tmpfs, which takes no O_DIRECT, and three
  // paths must fit into a config string and one into a socket address.
  // `memory`: a folder on a tmpfs, where the live maps lie in production; empty: they lie with the
  // rest.
  explicit PluginSite(const std::string& plugin, const std::string& memory = "");
  PluginSite(const PluginSite&) = delete;
  PluginSite& operator=(const PluginSite&) = delete;
  ~PluginSite();

  // Null, with a message on stderr: the plugin cannot be loaded.
  tcmur_handler* handler() const { return handler_; }
  const std::string& folder() const { return folder_; }
  std::string sys_dir() const { return folder_ + "/sys"; }

  // One request on the control socket and its reply.
  std::string ask_control(const std::string& line) const;

 private:
  std::string folder_ = "/var/tmp/clone-host-XXXXXX";
  std::string run_dir_;
  tcmur_handler* handler_ = nullptr;
};

}  // namespace clonedev::testing
