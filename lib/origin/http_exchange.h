// One GET of one range: what is sent, and what of the answer is believed.
//
// Bytes go into the buffer only after the whole head was read and says that exactly this range of
// exactly the pinned content follows, and only as many as were asked for. Anything else ends the
// exchange at once; whoever awaited it finds the reason in result(), head() and received().
//
// Credentials go to the target's own server only, never along with a redirect. Certificates are
// always verified. No proxy, no .netrc, no cookie: what the environment of the daemon says does not
// change where the data comes from.
//
// Units: bytes. Thread: the reactor's. Ownership: the buffer is the caller's; it is not touched
// once run() has returned.
#pragma once

#include <curl/curl.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "clonedev/extent.h"
#include "core/http_target.h"
#include "io/task.h"
#include "origin/http_head.h"
#include "origin/http_multi.h"
#include "origin/http_pin.h"

namespace clonedev {

struct EasyCleanup {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using CurlEasy = std::unique_ptr<CURL, EasyCleanup>;

class HttpExchange {
 public:
  // Without a pin, which comes of the first answer, any content will do. `easy` is lent.
  HttpExchange(HttpMulti& multi, CURL* easy, const HttpTarget& target, const HttpPin* pin);
  HttpExchange(const HttpExchange&) = delete;
  HttpExchange& operator=(const HttpExchange&) = delete;
  ~HttpExchange();

  // Once. `location`: where a redirect has led before, asked without following another; empty: the
  // target's own URL, and redirects are followed.
  Task<> run(std::string location, bool fresh_connection, std::uint64_t offset,
             std::span<std::byte> buffer);

  bool complete() const { return believed_ && result_ == CURLE_OK && received_ == wanted_.length; }
  const HttpHead& head() const { return head_; }
  CURLcode result() const { return result_; }
  std::size_t received() const { return received_; }
  // There was an answer, be it a refusal; false: only a part of one, or a redirect to nowhere.
  bool answered() const;
  bool too_long() const { return too_long_; }
  std::string effective_url() const;
  const char* error_text() const {
    return error_text_[0] ? error_text_ : curl_easy_strerror(result_);
  }

 private:
  void prepare(const std::string& url, bool fresh_connection);
  void prepare_credentials(const std::string& url);
  void add_header(const std::string& line);
  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);
  bool take(std::span<const std::byte> bytes);

  HttpMulti& multi_;
  const HttpTarget& target_;
  const HttpPin* const pin_;
  HttpTransfer transfer_;
  curl_slist* headers_ = nullptr;
  Extent wanted_;
  std::span<std::byte> buffer_;
  HttpHead head_;
  bool head_ended_ = false;
  bool believed_ = false;
  bool too_long_ = false;
  std::size_t received_ = 0;
  CURLcode result_ = CURLE_OK;
  char error_text_[CURL_ERROR_SIZE] = {};
};

}  // namespace clonedev
