// Talks to the control socket of the daemon: docs/control-protocol.md.
//
// Thread: one. Errors: CommandError.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace clonectl {

using Json = nlohmann::ordered_json;

// RFC 3986 escapes for what would end a word: blanks, '%', control characters.
std::string encode_word(std::string_view word);

class ControlClient {
 public:
  explicit ControlClient(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  // One request, one reply: the member "result". Each call is a connection of its own, so a
  // restarted daemon is found again. Throws: failed when nobody listens or the daemon says no,
  // usage or damaged when it says so, timed_out when no reply came in time.
  Json request(const std::vector<std::string>& words,
               std::chrono::milliseconds patience = std::chrono::seconds(30)) const;

 private:
  std::string socket_path_;
};

}  // namespace clonectl
