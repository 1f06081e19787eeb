#include "support/authority.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace clonedev {
namespace {

void put(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::trunc) << text;
}

void certtool(const std::filesystem::path& folder, const std::string& words,
              const std::string& into) {
  const std::string command =
      "cd " + folder.string() + " && certtool " + words + " --outfile " + into + " >log 2>&1";
  if (std::system(command.c_str()) == 0) return;
  std::fprintf(stderr, "failed: %s\n", command.c_str());
  std::abort();
}

void make_key(const std::filesystem::path& folder, const std::string& name) {
  certtool(folder, "--generate-privkey --key-type=ecdsa", name);
}

}  // namespace

bool Authority::possible() { return std::system("certtool --version >/dev/null 2>&1") == 0; }

Authority::Authority(std::filesystem::path folder, const std::string& name)
    : folder_(std::move(folder)) {
  std::filesystem::create_directory(folder_);
  put(folder_ / "ca.info", "cn = test\nca\ncert_signing_key\n");
  put(folder_ / "server.info", "cn = server\n" + name + "\ntls_www_server\nsigning_key\n");
  make_key(folder_, "ca-key.pem");
  make_key(folder_, "server-key.pem");
  certtool(folder_, "--generate-self-signed --template ca.info --load-privkey ca-key.pem",
           "ca-cert.pem");
  certtool(folder_,
           "--generate-certificate --template server.info --load-privkey server-key.pem "
           "--load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem",
           "server-cert.pem");
}

void self_signed(const std::filesystem::path& certificate, const std::filesystem::path& key,
                 const std::string& name) {
  const std::filesystem::path folder = certificate.parent_path();
  put(folder / "self.info", "cn = server\n" + name + "\ntls_www_server\nsigning_key\n");
  make_key(folder, key.string());
  certtool(folder, "--generate-self-signed --template self.info --load-privkey " + key.string(),
           certificate.string());
}

}  // namespace clonedev
