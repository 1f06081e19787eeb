// A real iSCSI target for tests: tgtd as a child process on a loopback port, with disks that are
// files in a folder of its own. Every wait is bounded; the child ends with its owner or with the
// thread that called start().
//
// Thread: one at a time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace clonedev {

class IscsiTarget {
 public:
  static bool available();  // tgt is installed.
  static constexpr const char* kName = "iqn.2026-01.test:disk";

  struct Disk {
    std::string file;  // In folder().
    unsigned sector = 512;
    bool thin = false;
  };
  struct User {
    std::string name;
    std::string secret;
    bool of_target = false;  // The target proves itself with it.
  };

  // The disks are LUN 1, 2, ... Not started yet.
  explicit IscsiTarget(std::vector<Disk> disks, std::vector<User> users = {});
  IscsiTarget(const IscsiTarget&) = delete;
  IscsiTarget& operator=(const IscsiTarget&) = delete;
  ~IscsiTarget();

  void start();   // Returns when its disks are there; aborts after 20 s.
  void kill();    // SIGKILL, reaped.
  void freeze();  // SIGSTOP: accepts, but never answers.
  void thaw();

  // `before`: "user%secret@"; `after`: "?key=value".
  std::string url(unsigned lun, const std::string& before = "",
                  const std::string& after = "") const;
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }

 private:
  bool admin(const std::string& words) const;
  void must(const std::string& words) const;

  const std::vector<Disk> disks_;
  const std::vector<User> users_;
  std::filesystem::path folder_;
  std::uint16_t port_;
  pid_t child_ = -1;
};

}  // namespace clonedev
