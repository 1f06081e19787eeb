#include "support/nginx_server.h"

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
#include <vector>

#include "support/server_place.h"

extern char** environ;

namespace clonedev {
namespace {

constexpr const char* kNginx = "/usr/sbin/nginx";
constexpr const char* kOpenssl = "/usr/bin/openssl";

bool accepts(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  const bool connected =
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return connected;
}

pid_t begin(const char* program, std::vector<std::string> words) {
  words.insert(words.begin(), program);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = -1;
  if (::posix_spawn(&child, program, nullptr, nullptr, argv.data(), environ) != 0) std::abort();
  return child;
}

void run(const char* program, std::vector<std::string> words) {
  int status = 0;
  ::waitpid(begin(program, std::move(words)), &status, 0);
  if (status != 0) std::abort();
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
}

}  // namespace

bool NginxServer::available() {
  return ::access(kNginx, X_OK) == 0 && ::access(kOpenssl, X_OK) == 0;
}

NginxServer::NginxServer()
    : folder_(make_scratch_folder("clone-http")), port_(free_port()), tls_port_(free_port()) {
  // nginx's worker is another user when the test is root.
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  std::filesystem::create_directory(folder_ / "www");
}

NginxServer::~NginxServer() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void NginxServer::make_certificate() const {
  if (std::filesystem::exists(folder_ / "ca.pem")) return;
  const std::string key = folder_ / "key.pem";
  const auto log = (folder_ / "openssl.log").string();
  run("/bin/sh",
      {"-c",
       "exec openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
       "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout " +
           key + " -out " + ca_file() + " >" + log + " 2>&1"});
}

std::string NginxServer::configuration(std::string locations) const {
  replace_all(locations, "{url}", url(""));
  replace_all(locations, "{tls}", tls_url(""));
  const std::string at = folder_;
  std::string text;
  text += "daemon off; master_process off; pid " + at + "/pid; error_log " + at + "/error.log;\n";
  text += "events { worker_connections 512; }\nhttp {\n";
  text +=
      "  log_format line '$request $status $connection Range=$http_range Auth=$http_authorization "
      "Match=$http_if_match Since=$http_if_unmodified_since';\n";
  text += "  access_log " + at + "/access.log line;\n";
  for (const char* kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"}) {
    text += std::string("  ") + kind + "_temp_path " + at + "/" + kind + ";\n";
  }
  const std::string common = "root " + at + "/www;\n" + locations + "\n  }\n";
  text += "  server { listen 127.0.0.1:" + std::to_string(port_) + "; " + common;
  text += "  server { listen 127.0.0.1:" + std::to_string(tls_port_) + " ssl http2;\n";
  text += "  ssl_certificate " + ca_file() + "; ssl_certificate_key " + at + "/key.pem;\n  ";
  return text + common + "}\n";
}

void NginxServer::start(const std::string& locations) {
  make_certificate();
  std::ofstream(folder_ / "nginx.conf") << configuration(locations);
  child_ =
      begin(kNginx, {"-p", folder_, "-c", folder_ / "nginx.conf", "-e", folder_ / "error.log"});
  for (int i = 0; i < 2000; ++i) {
    if (accepts(port_) && accepts(tls_port_)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::fprintf(stderr, "nginx does not start\n");
  std::abort();
}

void NginxServer::kill() {
  if (child_ <= 0) return;
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  child_ = -1;
}

std::string NginxServer::url(const std::string& path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + "/" + path;
}

std::string NginxServer::tls_url(const std::string& path) const {
  return "https://localhost:" + std::to_string(tls_port_) + "/" + path;
}

void NginxServer::write_file(const std::string& name, const std::string& content) const {
  std::ofstream(file(name), std::ios::binary) << content;
}

bool NginxServer::comes_to_log(const std::string& word, unsigned count) const {
  for (int i = 0; i < 1000 && logged(word) < count; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return logged(word) == count;
}

unsigned NginxServer::logged(const std::string& word) const {
  std::ifstream log(folder_ / "access.log");
  unsigned count = 0;
  for (std::string line; std::getline(log, line);) count += line.find(word) != std::string::npos;
  return count;
}

}  // namespace clonedev
