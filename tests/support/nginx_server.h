// A real HTTP server for tests: nginx as a child process, unprivileged as the test itself, with a
// configuration, a folder and loopback ports of its own. Every wait is bounded; the child ends with
// its owner.
//
// Thread: one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace clonedev {

class NginxServer {
 public:
  static bool available();  // nginx and openssl are installed.

  NginxServer();
  NginxServer(const NginxServer&) = delete;
  NginxServer& operator=(const NginxServer&) = delete;
  ~NginxServer();

  // `locations` go into the server block of the plain port, and into that of the TLS port, which
  // offers HTTP/2; {url} and {tls} become their addresses. Aborts after 20 s.
  void start(const std::string& locations = {});
  void kill();  // SIGKILL, reaped.

  std::string url(const std::string& path) const;      // http://127.0.0.1:PORT/path
  std::string tls_url(const std::string& path) const;  // https://localhost:PORT/path
  // The authority that has signed the certificate; nobody else knows it.
  std::string ca_file() const { return folder_ / "ca.pem"; }
  std::filesystem::path file(const std::string& name) const { return folder_ / "www" / name; }
  void write_file(const std::string& name, const std::string& content) const;
  // Lines of the access log that hold the word: "METHOD URI PROTOCOL STATUS CONNECTION Range=..
  // Auth=..".
  unsigned logged(const std::string& word) const;
  // Exactly so many, after a while: it logs a request when it is over for the server.
  bool comes_to_log(const std::string& word, unsigned count) const;

 private:
  void make_certificate() const;
  std::string configuration(std::string locations) const;

  std::filesystem::path folder_;
  std::uint16_t port_;
  std::uint16_t tls_port_;
  pid_t child_ = -1;
};

}  // namespace clonedev
