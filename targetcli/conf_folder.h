// /etc/tcmu/clone.d, or TCMU_CLONE_CONF_DIR: what `create` writes of a LUN. NAME.conf holds its
// settings, NAME.export how it is shown, for `delete` and for the next boot.
//
// One command at a time has the folder: LUNs are made one after the other, since many at once
// overflow the daemon's netlink socket. Files appear whole or not at all. Thread: one. Errors:
// CommandError.
#pragma once

#include <string>

#include "control_client.h"

namespace clonectl {

class ConfFolder {
 public:
  // Makes the folder when it is missing; waits until no other command has it, and says so.
  ConfFolder();
  ~ConfFolder();
  ConfFolder(const ConfFolder&) = delete;
  ConfFolder& operator=(const ConfFolder&) = delete;

  std::string conf_path(const std::string& name) const { return path_ + "/" + name + ".conf"; }
  // 0600, durable. Throws when there is such a file.
  void write_conf(const std::string& name, const std::string& settings) const;
  // Other settings in place of those that it wrote.
  void rewrite_conf(const std::string& name, const std::string& settings) const;
  // A conf file that `create` did not write stays. Whether one was removed.
  bool remove_conf(const std::string& name) const;

  // Takes the place of one that is left from before.
  void write_export(const std::string& name, const Json& shown) const;
  // Null when there is none.
  Json read_export(const std::string& name) const;
  bool remove_export(const std::string& name) const;

  // Holds the lock as long as anybody has it open.
  int fd() const { return fd_; }

 private:
  std::string export_path(const std::string& name) const { return path_ + "/" + name + ".export"; }
  enum class Place { is_free, may_be_taken };
  void write(const std::string& path, const std::string& text, Place place) const;
  bool put_in_place(const std::string& fresh, const std::string& path, Place place) const;
  bool remove(const std::string& path) const;

  std::string path_;
  int fd_;
};

}  // namespace clonectl
