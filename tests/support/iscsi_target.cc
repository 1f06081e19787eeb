#include "support/iscsi_target.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "support/server_place.h"

namespace clonedev {
namespace {}  // namespace

bool IscsiTarget::available() {
  return ::access("/usr/sbin/tgtd", X_OK) == 0 && ::access("/usr/sbin/tgtadm", X_OK) == 0;
}

IscsiTarget::IscsiTarget(std::vector<Disk> disks, std::vector<User> users)
    : disks_(std::move(disks)),
      users_(std::move(users)),
      folder_(make_scratch_folder("clone-tgt")),
      port_(free_port()) {}

IscsiTarget::~IscsiTarget() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

// Its control socket lies in the folder, so that several get on with each other and with the
// host's.
bool IscsiTarget::admin(const std::string& words) const {
  const std::string command = "TGT_IPC_SOCKET='" + file("socket").string() +
                              "' timeout 20 tgtadm --lld iscsi " + words + " >>'" +
                              file("log").string() + "' 2>&1";
  return std::system(command.c_str()) == 0;
}

void IscsiTarget::must(const std::string& words) const {
  if (admin(words)) return;
  std::fprintf(stderr, "tgtadm %s: failed\n", words.c_str());
  std::abort();
}

void IscsiTarget::start() {
  const std::string command = "export TGT_IPC_SOCKET='" + file("socket").string() +
                              "'; exec setpriv --pdeathsig KILL /usr/sbin/tgtd -f --iscsi "
                              "portal=127.0.0.1:" +
                              std::to_string(port_) + " >>'" + file("log").string() + "' 2>&1";
  const char* const words[] = {"sh", "-c", command.c_str(), nullptr};
  std::error_code ignored;
  std::filesystem::remove(file("socket.0"), ignored);
  if (::posix_spawn(&child_, "/bin/sh", nullptr, nullptr, const_cast<char**>(words), environ) !=
      0) {
    std::abort();
  }
  bool answers = false;
  for (int i = 0; i < 1000 && !answers; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    answers = std::filesystem::exists(file("socket.0")) && admin("--mode sys --op show");
  }
  must(std::string("--mode target --op new --tid 1 --targetname ") + kName);
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    const Disk& disk = disks_[i];
    const std::string lun = " --mode logicalunit --tid 1 --lun " + std::to_string(i + 1);
    must("--op new" + lun + " --backing-store " + file(disk.file).string() + " --blocksize " +
         std::to_string(disk.sector));
    if (disk.thin) must("--op update" + lun + " --params thin_provisioning=1");
  }
  for (const User& user : users_) {
    must("--mode account --op new --user " + user.name + " --password " + user.secret);
    must("--mode account --op bind --tid 1 --user " + user.name +
         (user.of_target ? " --outgoing" : ""));
  }
  must("--mode target --op bind --tid 1 --initiator-address ALL");
}

void IscsiTarget::kill() {
  if (child_ <= 0) return;
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = -1;
}

void IscsiTarget::freeze() {
  ::kill(child_, SIGSTOP);
  ::waitpid(child_, nullptr, WUNTRACED);
}

void IscsiTarget::thaw() { ::kill(child_, SIGCONT); }

std::string IscsiTarget::url(unsigned lun, const std::string& before,
                             const std::string& after) const {
  return "iscsi://" + before + "127.0.0.1:" + std::to_string(port_) + "/" + kName + "/" +
         std::to_string(lun) + after;
}

}  // namespace clonedev
