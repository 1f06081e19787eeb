// An NBD server that can do what no real one does: it speaks a correct handshake when asked to,
// and then whatever its script says. One thread, one connection after the other.
//
// Thread: the script runs in the server's own; destruction closes the sockets and joins it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace clonedev {

// The script's end of one connection. Everything returns false once the peer is gone.
class HostilePeer {
 public:
  using Bytes = std::vector<std::uint8_t>;
  struct Request {
    std::uint16_t type = 0;
    std::uint64_t cookie = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
  };

  explicit HostilePeer(int fd) : fd_(fd) {}

  struct Option {
    std::uint32_t code = 0;
    Bytes data;
  };

  bool handshake(std::uint64_t size, bool structured, std::uint16_t flags = 0x3);
  // The handshake, step by step.
  bool greet(std::uint16_t flags = 3);
  bool next(Option& option);
  bool option_reply(std::uint32_t option, std::uint32_t type, const Bytes& payload);

  bool next(Request& request);
  bool send(const Bytes& bytes);
  bool simple_reply(const Request& request, std::uint32_t error, const Bytes& data);
  // A chunk of a structured reply, with its payload as it is.
  bool chunk(const Request& request, std::uint16_t flags, std::uint16_t type, const Bytes& payload);
  bool data_chunk(const Request& request, bool last, std::uint64_t offset, const Bytes& data);
  // Sleeps until the peer has hung up, ten seconds at most.
  void wait_for_hangup();

  static void put(Bytes& to, std::uint64_t value, unsigned bytes);  // Big endian.

 private:
  bool receive(void* data, std::size_t length);
  std::uint64_t receive_number(unsigned bytes, bool& ok);

  int fd_;
};

class HostileNbdServer {
 public:
  using Script = std::function<void(HostilePeer&)>;

  explicit HostileNbdServer(Script script);
  HostileNbdServer(const HostileNbdServer&) = delete;
  HostileNbdServer& operator=(const HostileNbdServer&) = delete;
  ~HostileNbdServer();

  std::string uri() const { return "nbd+unix:///?socket=" + (folder_ / "socket").string(); }

 private:
  void serve();

  Script script_;
  std::filesystem::path folder_;
  int listener_ = -1;
  std::atomic<int> peer_ = -1;
  std::thread thread_;
};

}  // namespace clonedev
