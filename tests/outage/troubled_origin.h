// An origin whose server a test puts into trouble and out of it again, at the same address.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "trouble.h"

namespace clonedev {

class TroubledOrigin {
 public:
  // The last block of the disk, as long, has the bad sector.
  static constexpr std::uint64_t kBlock = 4096;

  virtual ~TroubledOrigin() = default;

  virtual std::string spec() const = 0;
  // The same with another host.
  virtual std::string spec_at(const std::string& host) const = 0;
  // Whom its certificate is checked against (origin_ca); or empty.
  virtual std::string authority() const { return {}; }
  // none: all is well again.
  virtual void set(Trouble trouble) = 0;
  // Connections made to it so far; 0 where nobody counts them.
  virtual unsigned connections() const = 0;
  // Has taken a request, or a connection, since the trouble began, that it does not answer. True
  // also where nobody can know.
  virtual bool holds_something() const = 0;
};

// Each serves `content` on a loopback address; null: what it needs is not installed.
std::unique_ptr<TroubledOrigin> troubled_nbd(const std::string& content);
std::unique_ptr<TroubledOrigin> troubled_nbds(const std::string& content);
std::unique_ptr<TroubledOrigin> troubled_http(const std::string& content);
std::unique_ptr<TroubledOrigin> troubled_https(const std::string& content);
std::unique_ptr<TroubledOrigin> troubled_iscsi(const std::string& content);

}  // namespace clonedev
