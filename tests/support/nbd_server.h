// A real NBD server for tests: nbdkit as a child process, on a Unix socket or a loopback port, in
// a folder of its own. Every wait is bounded; the child ends with its owner or with this process.
//
// Thread: one at a time; the one that calls start() has to outlive the server's use, because the
// kernel takes its end for the parent's.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace clonedev {

// As nbdkit's pattern plugin has it: every 8 bytes hold their own offset, big endian.
bool is_nbd_pattern(std::uint64_t offset, std::span<const std::byte> bytes);

class NbdServer {
 public:
  static bool available();  // nbdkit is installed.

  // `arguments`: filters, plugin and parameters as on nbdkit's command line; {folder} becomes
  // folder(). Not started yet.
  explicit NbdServer(std::vector<std::string> arguments, bool tcp = false);
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;
  ~NbdServer();

  void start();   // Returns when it accepts connections; aborts after 20 s.
  void kill();    // SIGKILL, reaped.
  void freeze();  // SIGSTOP: accepts, but never answers.
  void thaw();

  std::string uri() const;
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  void write_file(const std::string& name, const std::string& content) const;
  // Lines of {folder}/log (nbdkit's log filter) that hold the word.
  unsigned logged(const std::string& word) const;

 private:
  std::vector<std::string> command_line() const;
  bool accepts() const;

  std::vector<std::string> arguments_;
  std::filesystem::path folder_;
  std::uint16_t port_ = 0;  // 0: Unix socket.
  pid_t child_ = -1;
};

}  // namespace clonedev
