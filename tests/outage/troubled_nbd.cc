// An NBD server of our own, in every trouble but that of certificates.

#include "support/hostile_nbd_server.h"
#include "troubled_server.h"

namespace clonedev {
namespace {

constexpr std::uint16_t kReadOnlyMultiConn = 0x103;
constexpr std::uint32_t kEio = 5;

class TroubledNbd final : public TroubledServer {
 public:
  explicit TroubledNbd(std::string content) : TroubledServer(std::move(content)) { listen(); }
  ~TroubledNbd() override { stop(); }

  std::string spec() const override { return spec_at("127.0.0.1"); }
  std::string spec_at(const std::string& host) const override {
    return "nbd://" + host + ":" + std::to_string(port_);
  }

 private:
  void serve(int fd) override {
    HostilePeer peer(fd);
    if (!ready_to_answer(fd)) return;
    if (!peer.handshake(content().size(), true, kReadOnlyMultiConn)) return;
    for (HostilePeer::Request request; peer.next(request);) {
      if (!ready_to_answer(fd) || !answer(fd, peer, request)) return;
    }
  }

  bool answer(int fd, HostilePeer& peer, const HostilePeer::Request& request) {
    if (request.type == kBlockStatus) return tell_all_data(peer, request);
    const bool bad = is_bad(request.offset, request.length);
    if (bad) return peer.chunk(request, 1, kErrorChunk, error_payload());
    const std::string& bytes = content();
    HostilePeer::Bytes data(bytes.begin() + static_cast<std::ptrdiff_t>(request.offset),
                            bytes.begin() + static_cast<std::ptrdiff_t>(request.offset) +
                                static_cast<std::ptrdiff_t>(request.length));
    switch (trouble()) {
      case Trouble::reset:
        reset(fd);
        return false;
      case Trouble::garbage:
        return peer.data_chunk(request, true, request.offset + (std::uint64_t{1} << 40), data);
      case Trouble::cut_short:
        peer.data_chunk(
            request, false, request.offset,
            {data.begin(), data.begin() + static_cast<std::ptrdiff_t>(data.size() / 2)});
        return false;
      default:
        return peer.data_chunk(request, true, request.offset, data);
    }
  }

  static HostilePeer::Bytes error_payload() {
    HostilePeer::Bytes payload;
    HostilePeer::put(payload, kEio, 4);
    HostilePeer::put(payload, 0, 2);  // No text.
    return payload;
  }

  static bool tell_all_data(HostilePeer& peer, const HostilePeer::Request& request) {
    HostilePeer::Bytes payload;
    HostilePeer::put(payload, kContext, 4);
    HostilePeer::put(payload, request.length, 4);
    HostilePeer::put(payload, 0, 4);
    return peer.chunk(request, 1, kStatusChunk, payload);
  }

  static constexpr std::uint16_t kBlockStatus = 7;
  static constexpr std::uint16_t kStatusChunk = 5;
  static constexpr std::uint16_t kErrorChunk = (1 << 15) + 1;
  static constexpr std::uint32_t kContext = 7;  // As the handshake numbers it.
};

}  // namespace

std::unique_ptr<TroubledOrigin> troubled_nbd(const std::string& content) {
  return std::make_unique<TroubledNbd>(content);
}

}  // namespace clonedev
