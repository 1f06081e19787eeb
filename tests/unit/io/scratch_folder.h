// A folder of its own for a test, in the build directory or elsewhere, removed with all its files.
#pragma once

#include <string>

namespace clonedev {

class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& parent = SCRATCH_DIR);
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();

  std::string path(const std::string& name) const { return folder_ + "/" + name; }

 private:
  std::string folder_;
};

}  // namespace clonedev
