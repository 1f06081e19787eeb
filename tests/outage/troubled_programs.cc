// Real servers, for what ours do not speak: TLS and iSCSI.

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>

#include "support/authority.h"
#include "support/iscsi_target.h"
#include "support/nbd_server.h"
#include "support/nginx_server.h"
#include "troubled_origin.h"

namespace clonedev {
namespace {

constexpr const char* kExpired =
    "\nactivation_date = \"2020-01-01 00:00:00 UTC\"\n"
    "expiration_date = \"2021-01-01 00:00:00 UTC\"";

void spill(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string other_than(std::string bytes) {
  for (char& byte : bytes) byte = static_cast<char>(~byte);
  return bytes;
}

// What a program can be put into by stopping, ending and starting it. The address stays.
class TroubledProgram : public TroubledOrigin {
 public:
  explicit TroubledProgram(std::string content) : content_(std::move(content)) {}

  void set(Trouble trouble) override {
    if (stopped_) thaw();
    stopped_ = trouble == Trouble::stalled;
    if (stopped_) return freeze();
    const bool as_it_was = trouble == Trouble::none && !ended_ && !altered_;
    if (as_it_was) return;
    kill();
    ended_ = trouble == Trouble::gone;
    altered_ = trouble != Trouble::none;
    if (ended_) return;
    furnish(trouble == Trouble::other_content ? other_than(content_) : content_,
            trouble == Trouble::tls_expired ? kExpired : "");
    start();
  }
  unsigned connections() const override { return 0; }
  bool holds_something() const override { return true; }

 protected:
  void begin() {
    furnish(content_, "");
    start();
  }
  // `validity`: certtool's words for the dates of the certificate.
  virtual void furnish(const std::string& bytes, const std::string& validity) = 0;
  virtual void start() = 0;
  virtual void kill() = 0;
  virtual void freeze() {}
  virtual void thaw() {}

 private:
  const std::string content_;
  bool stopped_ = false;
  bool ended_ = false;
  bool altered_ = false;
};

class TroubledNbds final : public TroubledProgram {
 public:
  explicit TroubledNbds(const std::string& content) : TroubledProgram(content) { begin(); }

  std::string spec() const override { return spec_at("127.0.0.1"); }
  std::string spec_at(const std::string& host) const override {
    const std::string uri = server_.uri();  // nbd://127.0.0.1:PORT
    return "nbds://" + host + uri.substr(uri.rfind(':')) +
           "/?tls-certificates=" + server_.file("tls").string();
  }

 private:
  void furnish(const std::string& bytes, const std::string& validity) override {
    spill(server_.file("disk"), bytes);
    const Authority made(server_.file("tls"), "ip_address = \"127.0.0.1\"" + validity);
  }
  void start() override { server_.start(); }
  void kill() override { server_.kill(); }
  void freeze() override { server_.freeze(); }
  void thaw() override { server_.thaw(); }

  NbdServer server_{
      {"--readonly", "--tls=require", "--tls-certificates={folder}/tls", "file", "{folder}/disk"},
      true};
};

// Self-signed, so that it is its own authority.
class TroubledHttps final : public TroubledProgram {
 public:
  explicit TroubledHttps(const std::string& content) : TroubledProgram(content) { begin(); }

  std::string spec() const override { return server_.tls_url("disk"); }
  std::string spec_at(const std::string& host) const override {
    std::string url = spec();
    return url.replace(url.find("localhost"), std::string("localhost").size(), host);
  }
  std::string authority() const override { return server_.ca_file(); }

 private:
  void furnish(const std::string& bytes, const std::string& validity) override {
    const auto file = server_.file("disk");
    spill(file, bytes);
    // nginx makes the ETag of time and size.
    const std::chrono::seconds by_content(std::hash<std::string>()(bytes) % 100'000);
    std::filesystem::last_write_time(file, made_ - by_content);
    const std::filesystem::path certificate = server_.ca_file();
    std::filesystem::remove(certificate);
    if (!validity.empty()) {
      self_signed(certificate, certificate.parent_path() / "key.pem",
                  "dns_name = \"localhost\"" + validity);
    }
  }
  void start() override { server_.start(); }
  void kill() override { server_.kill(); }

  NginxServer server_;
  const std::filesystem::file_time_type made_ = std::filesystem::file_time_type::clock::now();
};

class TroubledIscsi final : public TroubledProgram {
 public:
  explicit TroubledIscsi(const std::string& content) : TroubledProgram(content) { begin(); }

  std::string spec() const override { return target_.url(1); }
  std::string spec_at(const std::string& host) const override {
    std::string url = spec();
    return url.replace(url.find("127.0.0.1"), std::string("127.0.0.1").size(), host);
  }

 private:
  void furnish(const std::string& bytes, const std::string&) override {
    spill(target_.file("disk"), bytes);
  }
  void start() override { target_.start(); }
  void kill() override { target_.kill(); }
  void freeze() override { target_.freeze(); }
  void thaw() override { target_.thaw(); }

  IscsiTarget target_{{{"disk"}}};
};

}  // namespace

std::unique_ptr<TroubledOrigin> troubled_nbds(const std::string& content) {
  if (!NbdServer::available() || !Authority::possible()) return nullptr;
  return std::make_unique<TroubledNbds>(content);
}

std::unique_ptr<TroubledOrigin> troubled_https(const std::string& content) {
  if (!NginxServer::available() || !Authority::possible()) return nullptr;
  return std::make_unique<TroubledHttps>(content);
}

std::unique_ptr<TroubledOrigin> troubled_iscsi(const std::string& content) {
  if (!IscsiTarget::available()) return nullptr;
  return std::make_unique<TroubledIscsi>(content);
}

}  // namespace clonedev
