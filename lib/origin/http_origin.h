// An object on an HTTP server as the origin, read by range requests over several connections, or
// multiplexed over one where the server offers HTTP/2.
//
// open() asks for the first byte: GET, since pre-signed URLs may refuse HEAD. The answer must be
// 206 and tell the size; a server without ranges is refused. Where redirects led is remembered and
// asked directly, until it fails: then the original URL is asked again, as a pre-signed location
// expires.
//
// The content is pinned to the answer's strong ETag, else to its Last-Modified, and each answer
// must be of that content (http_pin.h). When one is not, the origin goes down, and whoever wraps it
// (origin_link.h) finds out at the next opening what there is now.
//
// identity(): "http:size=..;etag=.." or "http:size=..;mtime=..;samples=.."; neither credential nor
// URL is a part of it.
//
// A request that fails before its end for reasons of the connection, or at a remembered location,
// is made once more over a new connection to the original URL; reading has no side effect.
//
// Units, thread, ownership: see origin.h and http_exchange.h.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/http_target.h"
#include "io/event.h"
#include "io/reactor.h"
#include "origin/http_exchange.h"
#include "origin/http_multi.h"
#include "origin/http_pin.h"
#include "origin/origin.h"
#include "origin/piece_reader.h"

namespace clonedev {

// What the attempts at one origin have in common: a server that wants to be left alone for a while
// (Retry-After) is, whichever of them it told.
struct HttpRest {
  Scheduler::TimePoint until;
};

class HttpOrigin final : public Origin, private PieceReader {
 public:
  static constexpr std::size_t kMostRequests = 24;  // At a time; the others wait here.
  static constexpr std::size_t kPiece = 1 << 20;    // A longer read is cut into these.

  // `patience`: a request that receives nothing for so long is given up.
  HttpOrigin(Reactor& reactor, std::shared_ptr<const HttpTarget> target,
             Scheduler::Duration patience, std::shared_ptr<HttpRest> rest);
  ~HttpOrigin() override;

  // Errc::refused: the server has no such object, does not let us, or has no ranges;
  // Errc::unavailable.
  Task<Result<>> open() override;
  std::uint64_t size() const override { return pin_.size; }
  Task<Result<std::string>> identity() override;
  Task<Result<OriginBytes>> read(std::uint64_t offset, std::span<std::byte> room) override;
  Task<Result<std::vector<OriginExtent>>> extents(Extent range) override;
  State state() const override;
  std::string last_error() const override { return last_error_; }
  Task<> close() override;

 private:
  class Turn;

  Task<Result<>> probe();
  Result<> learn(const HttpExchange& exchange);
  Task<Result<>> read_piece(std::uint64_t offset, std::span<std::byte> buffer) override;
  Task<> wait_for_turn();
  CurlEasy take_easy();
  bool worth_another(const HttpExchange& exchange, bool at_location) const;
  Error verdict(const HttpExchange& exchange, Extent wanted);
  Error verdict_on_status(const HttpExchange& exchange);
  Error error(Errc code, const std::string& why) const;
  Error remember(Error error);

  Reactor& reactor_;
  const std::shared_ptr<const HttpTarget> target_;
  const Scheduler::Duration patience_;
  const std::shared_ptr<HttpRest> rest_;
  HttpMulti multi_;
  HttpPin pin_;
  std::string location_;  // Where redirects led; empty: nowhere else.
  bool opened_ = false;
  bool failed_ = false;
  bool closed_ = false;
  std::string last_error_;

  std::vector<CurlEasy> idle_;  // Handles to use again: each has a buffer of its own.
  std::size_t requests_ = 0;
  Event turn_;  // Only ever woken.
  Event stop_;
  Gate gate_;
};

}  // namespace clonedev
