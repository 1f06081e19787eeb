// A metadata file or device that an offline command works on, and the reactor for its I/O.
//
// Thread: one. Errors: CommandError.
#pragma once

#include <memory>
#include <string>

#include "clonedev/error.h"
#include "command_error.h"
#include "io/file_device.h"
#include "io/reactor.h"

namespace clonectl {

// Throws what went wrong; Errc::damaged and Errc::foreign end with 3.
[[noreturn]] void give_up(const clonedev::Error& error);

template <class T>
T value_or_give_up(clonedev::Result<T> result) {
  if (!result) give_up(result.error());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

enum class Access { read, change };

// Refused while a daemon has it. With Access::read it may be read-only.
clonedev::ExclusiveFile open_metadata(const std::string& path, Access access);

class MetadataFile {
 public:
  explicit MetadataFile(clonedev::ExclusiveFile file);

  const std::string& path() const { return device_->file().path(); }
  clonedev::FileDevice& device() { return *device_; }
  clonedev::Reactor& reactor() { return *reactor_; }
  // Runs the task that `start` begins to its end.
  template <class F>
  auto run(F start) {
    return reactor_->run(std::move(start));
  }

 private:
  std::unique_ptr<clonedev::Reactor> reactor_;
  clonedev::BufferPool bounce_{std::size_t{16} << 20};  // Address space until used.
  std::unique_ptr<clonedev::FileDevice> device_;
};

}  // namespace clonectl
