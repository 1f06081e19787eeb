#include "support/hostile_nbd_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace clonedev {
namespace {

constexpr std::uint64_t kOptionReplyMagic = 0x3e889045565a9;
constexpr std::uint32_t kAck = 1;
constexpr std::uint32_t kInfo = 3;
constexpr std::uint32_t kMetaContext = 4;
constexpr std::uint32_t kUnsupported = (1U << 31) + 1;
constexpr std::uint32_t kOptGo = 7;
constexpr std::uint32_t kOptStructured = 8;
constexpr std::uint32_t kOptSetMetaContext = 10;

}  // namespace

void HostilePeer::put(Bytes& to, std::uint64_t value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

bool HostilePeer::send(const Bytes& bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const ssize_t sent = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    at += static_cast<std::size_t>(sent);
  }
  return true;
}

bool HostilePeer::receive(void* data, std::size_t length) {
  return length == 0 || ::recv(fd_, data, length, MSG_WAITALL) == static_cast<ssize_t>(length);
}

std::uint64_t HostilePeer::receive_number(unsigned bytes, bool& ok) {
  std::uint8_t raw[8] = {};
  ok = ok && receive(raw, bytes);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < bytes; ++i) value = value << 8 | raw[i];
  return value;
}

bool HostilePeer::option_reply(std::uint32_t option, std::uint32_t type, const Bytes& payload) {
  Bytes reply;
  put(reply, kOptionReplyMagic, 8);
  put(reply, option, 4);
  put(reply, type, 4);
  put(reply, payload.size(), 4);
  reply.insert(reply.end(), payload.begin(), payload.end());
  return send(reply);
}

bool HostilePeer::greet(std::uint16_t flags) {
  Bytes greeting;
  put(greeting, 0x4e42444d41474943, 8);  // NBDMAGIC
  put(greeting, 0x49484156454f5054, 8);  // IHAVEOPT
  put(greeting, flags, 2);
  bool ok = send(greeting);
  receive_number(4, ok);
  return ok;
}

bool HostilePeer::next(Option& option) {
  bool ok = true;
  receive_number(8, ok);
  option.code = static_cast<std::uint32_t>(receive_number(4, ok));
  option.data.resize(receive_number(4, ok) & 0xffff);
  return ok && receive(option.data.data(), option.data.size());
}

bool HostilePeer::handshake(std::uint64_t size, bool structured, std::uint16_t flags) {
  bool ok = greet();
  for (Option option; ok && next(option);) {
    if (option.code == kOptStructured && structured) {
      ok = option_reply(option.code, kAck, {});
    } else if (option.code == kOptSetMetaContext && structured) {
      Bytes context;
      put(context, 7, 4);
      for (const char c : std::string("base:allocation")) context.push_back(std::uint8_t(c));
      ok = option_reply(option.code, kMetaContext, context) && option_reply(option.code, kAck, {});
    } else if (option.code == kOptGo) {
      Bytes info;
      put(info, 0, 2);
      put(info, size, 8);
      put(info, flags, 2);
      return option_reply(option.code, kInfo, info) && option_reply(option.code, kAck, {});
    } else {
      ok = option_reply(option.code, kUnsupported, {});
    }
  }
  return false;
}

bool HostilePeer::next(Request& request) {
  bool ok = true;
  receive_number(4, ok);
  receive_number(2, ok);
  request.type = static_cast<std::uint16_t>(receive_number(2, ok));
  request.cookie = receive_number(8, ok);
  request.offset = receive_number(8, ok);
  request.length = static_cast<std::uint32_t>(receive_number(4, ok));
  return ok && request.type != 2;  // 2: goodbye
}

bool HostilePeer::simple_reply(const Request& request, std::uint32_t error, const Bytes& data) {
  Bytes reply;
  put(reply, 0x67446698, 4);
  put(reply, error, 4);
  put(reply, request.cookie, 8);
  reply.insert(reply.end(), data.begin(), data.end());
  return send(reply);
}

bool HostilePeer::chunk(const Request& request, std::uint16_t flags, std::uint16_t type,
                        const Bytes& payload) {
  Bytes reply;
  put(reply, 0x668e33ef, 4);
  put(reply, flags, 2);
  put(reply, type, 2);
  put(reply, request.cookie, 8);
  put(reply, payload.size(), 4);
  reply.insert(reply.end(), payload.begin(), payload.end());
  return send(reply);
}

bool HostilePeer::data_chunk(const Request& request, bool last, std::uint64_t offset,
                             const Bytes& data) {
  Bytes payload;
  put(payload, offset, 8);
  payload.insert(payload.end(), data.begin(), data.end());
  return chunk(request, last ? 1 : 0, 1, payload);
}

void HostilePeer::wait_for_hangup() {
  pollfd peer{fd_, POLLRDHUP, 0};
  ::poll(&peer, 1, 10'000);
}

HostileNbdServer::HostileNbdServer(Script script) : script_(std::move(script)) {
  std::string pattern = std::filesystem::temp_directory_path() / "clone-fake-XXXXXX";
  if (!::mkdtemp(pattern.data())) std::abort();
  folder_ = pattern;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (folder_ / "socket").c_str(), sizeof address.sun_path - 1);
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener_, 16) != 0) {
    std::abort();
  }
  thread_ = std::thread([this] { serve(); });
}

HostileNbdServer::~HostileNbdServer() {
  ::shutdown(listener_, SHUT_RDWR);
  if (const int peer = peer_; peer >= 0) ::shutdown(peer, SHUT_RDWR);
  thread_.join();
  ::close(listener_);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void HostileNbdServer::serve() {
  for (int fd; (fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    peer_ = fd;
    HostilePeer peer(fd);
    script_(peer);
    peer_ = -1;
    ::close(fd);
  }
}

}  // namespace clonedev
