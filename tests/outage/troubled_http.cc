// An HTTP server of our own, in every trouble but that of certificates.

#include "support/hostile_http_server.h"
#include "troubled_server.h"

namespace clonedev {
namespace {

class TroubledHttp final : public TroubledServer {
 public:
  explicit TroubledHttp(std::string content) : TroubledServer(std::move(content)) { listen(); }
  ~TroubledHttp() override { stop(); }

  std::string spec() const override { return spec_at("127.0.0.1"); }
  std::string spec_at(const std::string& host) const override {
    return "http://" + host + ":" + std::to_string(port_) + "/disk";
  }

 private:
  void serve(int fd) override {
    HostileHttpPeer peer(fd);
    for (HostileHttpPeer::Request request; peer.next(request);) {
      if (!ready_to_answer(fd) || !answer(fd, peer, request)) return;
    }
  }

  std::string etag() const {
    return trouble() == Trouble::other_content ? "ETag: \"2\"\r\n" : "ETag: \"1\"\r\n";
  }

  bool answer(int fd, HostileHttpPeer& peer, const HostileHttpPeer::Request& request) {
    // The first byte is how a connection begins: these troubles come after that.
    const bool opening = request.length() == 1;
    if (is_bad(request.first, request.length()) && !opening) {
      return peer.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    }
    switch (trouble()) {
      case Trouble::reset:
        reset(fd);
        return false;
      case Trouble::garbage:
        return peer.send(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 18446744073709551615\r\n"
            "Content-Range: bytes 99999999999999999999-3/-1\r\n" +
            etag() + "\r\nxxxx");
      case Trouble::cut_short:
        if (opening) return peer.answer(request, content(), etag());
        peer.send(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: " + std::to_string(request.length()) +
            "\r\nContent-Range: bytes " + std::to_string(request.first) + "-" +
            std::to_string(request.last) + "/" + std::to_string(content().size()) + "\r\n" +
            etag() + "\r\n" + content().substr(request.first, request.length() / 2));
        return false;
      default:
        return peer.answer(request, content(), etag());
    }
  }
};

}  // namespace

std::unique_ptr<TroubledOrigin> troubled_http(const std::string& content) {
  return std::make_unique<TroubledHttp>(content);
}

}  // namespace clonedev
