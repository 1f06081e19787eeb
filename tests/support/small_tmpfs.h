// A tmpfs of its own that a test can fill. It is mounted in a mount namespace of this process, made
// with the first one, so that nothing is left behind whatever happens. Threads that were there
// before do not see it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

namespace clonedev {

class SmallTmpfs {
 public:
  // `options` as in mount(8), e.g. "size=256k". Null: mounting is not permitted here.
  static std::unique_ptr<SmallTmpfs> mount(const std::string& options);
  ~SmallTmpfs();
  SmallTmpfs(const SmallTmpfs&) = delete;
  SmallTmpfs& operator=(const SmallTmpfs&) = delete;

  const std::string& path() const { return path_; }
  // Takes all the space that is left, or gives it back.
  void fill(bool full);

 private:
  explicit SmallTmpfs(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace clonedev
