#include "support/nbd_server.h"

#include <arpa/inet.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "support/server_place.h"

extern char** environ;

namespace clonedev {
namespace {

constexpr const char* kNbdkit = "/usr/bin/nbdkit";

}  // namespace

bool NbdServer::available() { return ::access(kNbdkit, X_OK) == 0; }

NbdServer::NbdServer(std::vector<std::string> arguments, bool tcp)
    : arguments_(std::move(arguments)),
      folder_(make_scratch_folder("clone-nbd")),
      port_(tcp ? free_port() : 0) {}

NbdServer::~NbdServer() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::vector<std::string> NbdServer::command_line() const {
  std::vector<std::string> words = {kNbdkit, "--foreground", "--exit-with-parent", "--pidfile",
                                    file("pid")};
  if (port_ != 0) {
    words.insert(words.end(), {"--ipaddr", "127.0.0.1", "--port", std::to_string(port_)});
  } else {
    words.insert(words.end(), {"--unix", file("socket")});
  }
  for (std::string word : arguments_) {
    const std::string place = "{folder}";
    if (const auto at = word.find(place); at != std::string::npos) {
      word.replace(at, place.size(), folder_.string());
    }
    words.push_back(std::move(word));
  }
  return words;
}

void NbdServer::start() {
  std::error_code ignored;
  std::filesystem::remove(file("socket"), ignored);
  std::filesystem::remove(file("pid"), ignored);
  std::vector<std::string> words = command_line();
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  if (::posix_spawn(&child_, kNbdkit, nullptr, nullptr, argv.data(), environ) != 0) std::abort();
  for (int i = 0; i < 2000; ++i) {
    if (accepts()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::fprintf(stderr, "nbdkit does not start\n");
  std::abort();
}

// nbdkit writes it once it listens.
bool NbdServer::accepts() const { return std::filesystem::exists(file("pid")); }

void NbdServer::kill() {
  if (child_ <= 0) return;
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = -1;
}

void NbdServer::freeze() {
  ::kill(child_, SIGSTOP);
  ::waitpid(child_, nullptr, WUNTRACED);  // Until every thread of it has stopped.
}

void NbdServer::thaw() { ::kill(child_, SIGCONT); }

std::string NbdServer::uri() const {
  if (port_ != 0) return "nbd://127.0.0.1:" + std::to_string(port_);
  return "nbd+unix:///?socket=" + file("socket").string();
}

void NbdServer::write_file(const std::string& name, const std::string& content) const {
  std::ofstream(file(name), std::ios::binary) << content;
}

unsigned NbdServer::logged(const std::string& word) const {
  std::ifstream log(file("log"));
  unsigned count = 0;
  for (std::string line; std::getline(log, line);) count += line.find(word) != std::string::npos;
  return count;
}

bool is_nbd_pattern(std::uint64_t offset, std::span<const std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::uint64_t word = (offset + i) / 8 * 8;
    const auto shift = 8 * (7 - (offset + i) % 8);
    if (std::to_integer<std::uint64_t>(bytes[i]) != (word >> shift & 0xff)) return false;
  }
  return true;
}

}  // namespace clonedev
