// What the tests of the HTTP origin share: an origin on a reactor, closed at the end.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

#include "origin/http_origin.h"
#include "support/run_on_reactor.h"

namespace clonedev {

class HttpOriginBed : public testing::Test {
 protected:
  ~HttpOriginBed() override { close(); }

  Result<> open(const std::string& spec, Scheduler::Duration patience = std::chrono::seconds(20)) {
    close();
    auto target = HttpTarget::parse(spec);
    if (!target) return fail(target.error());
    target->token = token_;
    target->ca_file = ca_file_;
    origin_ = std::make_unique<HttpOrigin>(
        *reactor_, std::make_shared<const HttpTarget>(std::move(*target)), patience, rest_);
    return run_on(*reactor_, [this] { return origin_->open(); });
  }
  void close() {
    if (origin_) run_on(*reactor_, [this] { return origin_->close(); });
    origin_.reset();
  }
  Result<OriginBytes> read(std::uint64_t offset, std::span<std::byte> buffer) {
    return run_on(*reactor_, [&] { return origin_->read(offset, buffer); });
  }
  std::string identity() {
    auto text = run_on(*reactor_, [this] { return origin_->identity(); });
    return text ? *text : text.error().message();
  }
  // The content of a range, or the error in braces.
  std::string content(std::uint64_t offset, std::size_t length) {
    std::string text(length, '?');
    const auto done = read(offset, std::as_writable_bytes(std::span(text)));
    return done ? text : "{" + done.error().message() + "}";
  }
  // Every 16 bytes hold their own offset.
  static std::string pattern(std::size_t size) {
    std::string text;
    while (text.size() < size) {
      const std::string number = std::to_string(text.size());
      text += std::string(15 - number.size(), '0') + number + "\n";
    }
    return text;
  }
  static bool contains(const std::string& text, const std::string& word) {
    return text.find(word) != std::string::npos;
  }

  std::unique_ptr<Reactor> reactor_ = new_reactor();
  std::unique_ptr<HttpOrigin> origin_;
  std::shared_ptr<HttpRest> rest_ = std::make_shared<HttpRest>();
  std::string token_;
  std::string ca_file_;
};

}  // namespace clonedev
