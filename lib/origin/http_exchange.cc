#include "origin/http_exchange.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace clonedev {
namespace {

constexpr long kMostRedirects = 5;
constexpr long kReceiveBuffer = 512 << 10;
constexpr long kIdleSeconds = 15;  // Until the peer of an idle connection is asked.
constexpr long kAskSeconds = 5;

// libcurl's own sockets would be inherited by whatever the host starts.
curl_socket_t open_socket(void*, curlsocktype, curl_sockaddr* address) {
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

template <class T>
void set(CURL* easy, CURLoption option, T value) {
  curl_easy_setopt(easy, option, value);
}

// Of the system's authorities, in one file.
bool has_bundle() {
  static const char* const bundle = curl_version_info(CURLVERSION_NOW)->cainfo;
  static const bool readable = bundle && ::access(bundle, R_OK) == 0;
  return readable;
}

}  // namespace

HttpExchange::HttpExchange(HttpMulti& multi, CURL* easy, const HttpTarget& target,
                           const HttpPin* pin)
    : multi_(multi), target_(target), pin_(pin) {
  transfer_.easy = easy;
}

HttpExchange::~HttpExchange() {
  curl_easy_reset(transfer_.easy);  // It points into this object.
  curl_slist_free_all(headers_);
}

void HttpExchange::add_header(const std::string& line) {
  if (curl_slist* longer = curl_slist_append(headers_, line.c_str())) headers_ = longer;
}

void HttpExchange::prepare(const std::string& url, bool fresh_connection) {
  CURL* easy = transfer_.easy;
  const bool follow = url == target_.url;
  set(easy, CURLOPT_URL, url.c_str());
  set(easy, CURLOPT_PATH_AS_IS, 1L);
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_REDIR_PROTOCOLS_STR, target_.secure() ? "https" : "http,https");
  set(easy, CURLOPT_FOLLOWLOCATION, follow ? 1L : 0L);
  set(easy, CURLOPT_MAXREDIRS, kMostRedirects);
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!target_.ca_file.empty()) {
    set(easy, CURLOPT_CAINFO, target_.ca_file.c_str());
  }
  // libcurl keeps a bundle that it has parsed (CURLOPT_CA_CACHE_TIMEOUT) only where there is no
  // folder beside it; without, each new connection parses some hundred certificates in our thread.
  if (!target_.ca_file.empty() || has_bundle()) {
    set(easy, CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  }
  set(easy, CURLOPT_PROXY, "");
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_QUICK_EXIT, 1L);  // Ending never waits for a name server.
  set(easy, CURLOPT_FRESH_CONNECT, fresh_connection ? 1L : 0L);
  set(easy, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set(easy, CURLOPT_TCP_KEEPIDLE, kIdleSeconds);
  set(easy, CURLOPT_TCP_KEEPINTVL, kAskSeconds);
  set(easy, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
  set(easy, CURLOPT_ERRORBUFFER, error_text_);
  set(easy, CURLOPT_HEADERFUNCTION, &HttpExchange::on_header);
  set(easy, CURLOPT_HEADERDATA, this);
  set(easy, CURLOPT_WRITEFUNCTION, &HttpExchange::on_body);
  set(easy, CURLOPT_WRITEDATA, this);
  prepare_credentials(url);
  add_header("Accept-Encoding: identity");
  if (pin_ && !pin_->precondition().empty()) add_header(pin_->precondition());
  set(easy, CURLOPT_HTTPHEADER, headers_);
}

// libcurl itself keeps them back when a redirect leads to another server; here is the other half:
// a location that was remembered.
void HttpExchange::prepare_credentials(const std::string& url) {
  CURL* easy = transfer_.easy;
  if (url != target_.url && !target_.same_server(url)) return;
  if (!target_.token.empty()) {
    set(easy, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
    set(easy, CURLOPT_XOAUTH2_BEARER, target_.token.c_str());
  } else if (!target_.user.empty() || !target_.password.empty()) {
    set(easy, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BASIC));
    set(easy, CURLOPT_USERNAME, target_.user.c_str());
    set(easy, CURLOPT_PASSWORD, target_.password.c_str());
  }
}

Task<> HttpExchange::run(std::string location, bool fresh_connection, std::uint64_t offset,
                         std::span<std::byte> buffer) {
  wanted_ = {offset, buffer.size()};
  buffer_ = buffer;
  prepare(location.empty() ? target_.url : location, fresh_connection);
  const std::string range = fmt::format("{}-{}", offset, wanted_.end() - 1);
  set(transfer_.easy, CURLOPT_RANGE, range.c_str());
  result_ = co_await multi_.perform(transfer_);
}

std::size_t HttpExchange::on_header(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<HttpExchange*>(self);
  const std::string_view line(data, size * count);
  exchange.transfer_.last_progress = Scheduler::Clock::now();
  if (line.starts_with("HTTP/")) exchange.head_ended_ = false;
  if (line == "\r\n" || line == "\n") exchange.head_ended_ = true;
  return exchange.head_.add_line(line) ? line.size() : 0;
}

std::size_t HttpExchange::on_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& exchange = *static_cast<HttpExchange*>(self);
  exchange.transfer_.last_progress = Scheduler::Clock::now();
  const bool taken = exchange.take({reinterpret_cast<const std::byte*>(data), size * count});
  return taken ? size * count : 0;  // 0 ends the transfer with CURLE_WRITE_ERROR.
}

bool HttpExchange::take(std::span<const std::byte> bytes) {
  if (!believed_) {
    believed_ = answers_range(head_, wanted_) && (!pin_ || pin_->difference(head_).empty());
    if (!believed_) return false;
  }
  too_long_ = bytes.size() > buffer_.size() - received_;
  if (too_long_) return false;
  std::memcpy(buffer_.data() + received_, bytes.data(), bytes.size());
  received_ += bytes.size();
  return true;
}

bool HttpExchange::answered() const {
  const int status = head_.status();
  const bool final_answer = result_ == CURLE_OK || result_ == CURLE_WRITE_ERROR;
  return head_ended_ && status >= 200 && (status < 300 || status >= 400 || final_answer);
}

std::string HttpExchange::effective_url() const {
  const char* url = nullptr;
  curl_easy_getinfo(transfer_.easy, CURLINFO_EFFECTIVE_URL, &url);
  return url ? url : "";
}

}  // namespace clonedev
