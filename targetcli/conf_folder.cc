#include "conf_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "command_error.h"
#include "engine/private_folder.h"
#include "environment.h"
#include "metadata_file.h"

namespace clonectl {
namespace {

constexpr std::string_view kMark = "# Made by clonectl create; clonectl delete removes it.\n";

[[noreturn]] void give_up_on(const std::string& path, const char* what) {
  const int error = errno;
  throw CommandError(
      ExitCode::failed,
      fmt::format("{}: cannot be {}: {}: {}", path, what, std::strerror(error),
                  error == EACCES || error == EPERM ? "try again as root"
                  : error == EEXIST ? "clonectl delete removes one of its own, you any other"
                                    : "mend that, then try again"));
}

// Where a file is written; one that is left is of a command that was killed.
std::string unfinished(const std::string& path) { return path + ".new"; }

std::string file_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

ConfFolder::ConfFolder() : path_(from_environment("TCMU_CLONE_CONF_DIR", "/etc/tcmu/clone.d")) {
  const auto open = [this] { return ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); };
  fd_ = open();
  if (fd_ < 0 && errno != ENOENT) give_up_on(path_, "opened");
  value_or_give_up(clonedev::make_private_folder(path_, "folder of conf files"));
  if (fd_ < 0) fd_ = open();
  if (fd_ < 0) give_up_on(path_, "opened");
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  if (errno == EWOULDBLOCK) {
    fmt::print(stderr, "clonectl: waiting for another clonectl, which has {}\n", path_);
    if (::flock(fd_, LOCK_EX) == 0) return;
  }
  if (errno == EINTR) throw CommandError(ExitCode::failed, "interrupted: nothing was changed");
  give_up_on(path_, "locked");
}

ConfFolder::~ConfFolder() { ::close(fd_); }

void ConfFolder::write_conf(const std::string& name, const std::string& settings) const {
  write(conf_path(name), std::string(kMark) + settings, Place::is_free);
}

void ConfFolder::rewrite_conf(const std::string& name, const std::string& settings) const {
  write(conf_path(name), std::string(kMark) + settings, Place::may_be_taken);
}

bool ConfFolder::remove_conf(const std::string& name) const {
  ::unlink(unfinished(conf_path(name)).c_str());
  return file_text(conf_path(name)).starts_with(kMark) && remove(conf_path(name));
}

void ConfFolder::write_export(const std::string& name, const Json& shown) const {
  write(export_path(name), shown.dump() + "\n", Place::may_be_taken);
}

Json ConfFolder::read_export(const std::string& name) const {
  return Json::parse(file_text(export_path(name)), nullptr, false);
}

bool ConfFolder::remove_export(const std::string& name) const {
  ::unlink(unfinished(export_path(name)).c_str());
  return remove(export_path(name));
}

void ConfFolder::write(const std::string& path, const std::string& text, Place place) const {
  const std::string fresh = unfinished(path);
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) give_up_on(path, "written");
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(fd) == 0 && put_in_place(fresh, path, place) && ::fsync(fd_) == 0;
  const int error = errno;
  ::close(fd);
  if (written) return;
  ::unlink(fresh.c_str());
  errno = error;
  give_up_on(path, "written");
}

bool ConfFolder::put_in_place(const std::string& fresh, const std::string& path,
                              Place place) const {
  if (place == Place::may_be_taken) return ::rename(fresh.c_str(), path.c_str()) == 0;
  return ::link(fresh.c_str(), path.c_str()) == 0 && ::unlink(fresh.c_str()) == 0;
}

bool ConfFolder::remove(const std::string& path) const {
  if (::unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return false;
    give_up_on(path, "removed");
  }
  ::fsync(fd_);
  return true;
}

}  // namespace clonectl
