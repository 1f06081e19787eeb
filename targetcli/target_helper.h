// The helper that sets up the kernel's targets (helper/target_helper.py): one request, one reply.
//
// What it made it takes back, unless told to commit, when this object goes, and also when clonectl
// is killed: it keeps the folder of conf files locked until it has done so. Thread: one. Errors:
// CommandError with its sentence.
#pragma once

#include <sys/types.h>

#include <string>

#include "conf_folder.h"
#include "control_client.h"

namespace clonectl {

class TargetHelper {
 public:
  explicit TargetHelper(const ConfFolder& folder);
  ~TargetHelper();
  TargetHelper(const TargetHelper&) = delete;
  TargetHelper& operator=(const TargetHelper&) = delete;

  // The reply's "result". Waits as long as the kernel does.
  Json request(const Json& what);
  // Lets it take back what was not committed; a sentence on what it could not, or nothing.
  std::string end();

 private:
  std::string read_line();

  pid_t child_ = -1;
  int fd_ = -1;
  std::string received_;
};

}  // namespace clonectl
