#include "scratch_folder.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace clonedev {

ScratchFolder::ScratchFolder(const std::string& parent)
    : folder_(parent + "/clonedev-test-XXXXXX") {
  if (::mkdtemp(folder_.data())) return;
  std::perror(folder_.c_str());
  std::abort();
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace clonedev
