// Reads the conf file that a config string names. The daemon is root and the file says what it
// opens, so the file must be in the hands of the daemon's own user alone.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "clonedev/options.h"
#include "core/config_parser.h"
#include "core/config_value.h"

namespace clonedev {
namespace {

constexpr std::size_t kMaxConfFile = 64 * 1024;

class ConfFile {
 public:
  explicit ConfFile(const std::string& path)
      // O_NONBLOCK: a FIFO in place of the file must not hold up the daemon.
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {}
  ~ConfFile() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  ConfFile(const ConfFile&) = delete;
  ConfFile& operator=(const ConfFile&) = delete;

  int fd() const { return fd_; }

 private:
  int fd_;
};

std::string system_text(int error) { return std::generic_category().message(error); }

tl::unexpected<Error> cannot_open(const std::string& path, int error) {
  if (error == ELOOP) {
    return fail(Errc::refused,
                fmt::format("{}: is a symbolic link: put the file itself there", path));
  }
  return fail(Errc::unavailable, fmt::format("{}: cannot be opened: {}: create it or correct conf=",
                                             path, system_text(error)));
}

Result<> check_file(const std::string& path, const struct stat& info) {
  if (!S_ISREG(info.st_mode)) {
    return fail(Errc::refused, fmt::format("{}: is not a regular file: replace it", path));
  }
  if (info.st_uid != ::geteuid()) {
    return fail(Errc::refused, fmt::format("{}: belongs to uid {}: chown it to {}", path,
                                           info.st_uid, ::geteuid() == 0 ? "root" : "this user"));
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(Errc::refused,
                fmt::format("{}: others may write it: chmod it to 0600 or 0644", path));
  }
  return {};
}

Result<std::string> read_all(const std::string& path, int fd) {
  std::string text(kMaxConfFile + 1, '\0');
  std::size_t used = 0;
  while (used < text.size()) {
    const ssize_t got = ::read(fd, text.data() + used, text.size() - used);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return fail(Errc::unavailable,
                  fmt::format("{}: cannot be read: {}", path, system_text(errno)));
    }
    if (got == 0) {
      text.resize(used);
      return text;
    }
    used += static_cast<std::size_t>(got);
  }
  return fail(Errc::bad_config, fmt::format("{}: is larger than {} bytes: it cannot be a conf file",
                                            path, kMaxConfFile));
}

Result<> check_secrecy(const std::string& path, const struct stat& info, const Options& options) {
  const bool secret =
      config::holds_credentials(options.origin) || !options.origin_token.empty() ||
      std::any_of(options.alternates.begin(), options.alternates.end(), config::holds_credentials);
  if ((info.st_mode & (S_IRGRP | S_IROTH)) != 0 && secret) {
    return fail(
        Errc::refused,
        fmt::format("{}: others may read the credentials of its origin: chmod it to 0600", path));
  }
  return {};
}

}  // namespace

Result<Options> load_config(std::string_view config, const std::string& conf_dir) {
  auto named = parse_config(config);
  if (!named || named->conf.empty()) {
    return named;
  }
  const std::string path = fmt::format("{}/{}.conf", conf_dir, named->conf);
  const ConfFile file(path);
  if (file.fd() < 0) {
    return cannot_open(path, errno);
  }
  struct stat info = {};
  if (::fstat(file.fd(), &info) != 0) {
    return cannot_open(path, errno);
  }
  if (auto checked = check_file(path, info); !checked) {
    return fail(std::move(checked).error());
  }
  const auto text = read_all(path, file.fd());
  if (!text) {
    return fail(text.error());
  }
  auto options = parse_conf_text(*text, path, config);
  if (!options) {
    return options;
  }
  if (auto secret = check_secrecy(path, info, *options); !secret) {
    return fail(std::move(secret).error());
  }
  return options;
}

}  // namespace clonedev
