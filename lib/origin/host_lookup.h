// From the name of a host to its addresses, without anybody waiting in getaddrinfo(3), which blocks
// for half a minute when DNS is gone.
//
// A thread of its own asks and rings; nobody waits for the thread. Whoever loses interest destroys
// the lookup: the thread then ends by itself, when the resolver lets it, and touches nothing but
// its own job.
//
// Thread: any, one at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "clonedev/error.h"

namespace clonedev {

class HostLookup {
 public:
  static Result<std::unique_ptr<HostLookup>> start(const std::string& host);

  // Becomes readable when there is an answer.
  int fd() const;
  bool finished() const;
  // When finished: numeric addresses in the resolver's order, IPv6 ones in brackets; at least one.
  // Errc::unavailable: there is no such host, or nobody to ask.
  Result<std::vector<std::string>> take();

 private:
  struct Job;
  explicit HostLookup(std::shared_ptr<Job> job) : job_(std::move(job)) {}

  std::shared_ptr<Job> job_;
};

}  // namespace clonedev
