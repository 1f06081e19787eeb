// A folder on tmpfs that is gone at the end.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace clonedev::fuzz {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = "/dev/shm/clonedev-fuzz-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace clonedev::fuzz
