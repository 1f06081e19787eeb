#include "control_commands.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "lun.h"

namespace clonedev {
namespace {

using Words = std::vector<std::string>;

// Appends the byte that "%41" stands for. False: two hexadecimal digits are not there.
bool decode_escape(std::string_view escape, std::string& into) {
  if (escape.size() < 3) return false;
  unsigned byte = 0;
  const char* const end = escape.data() + 3;
  const auto [stop, error] = std::from_chars(escape.data() + 1, end, byte, 16);
  if (error != std::errc() || stop != end || byte == 0) return false;
  into += static_cast<char>(byte);
  return true;
}

std::optional<std::string> decode(std::string_view word) {
  std::string text;
  while (!word.empty()) {
    if (word.front() != '%') {
      text += word.front();
      word.remove_prefix(1);
    } else if (decode_escape(word, text)) {
      word.remove_prefix(3);
    } else {
      return std::nullopt;
    }
  }
  return text;
}

// Nothing when a word has a bad escape.
std::optional<Words> split(std::string_view line) {
  constexpr std::string_view kBlanks = " \t\r";
  Words words;
  while (true) {
    const std::size_t start = line.find_first_not_of(kBlanks);
    if (start == std::string_view::npos) return words;
    line.remove_prefix(start);
    const std::size_t end = std::min(line.find_first_of(kBlanks), line.size());
    auto word = decode(line.substr(0, end));
    if (!word) return std::nullopt;
    words.push_back(std::move(*word));
    line.remove_prefix(end);
  }
}

std::string success(std::string_view result_json) {
  std::string reply = R"({"ok":true,"result":)";
  reply += result_json;
  reply += "}\n";
  return reply;
}

std::string entry_json(const LunRegistry::Entry& entry) {
  return status_json(entry.lun ? entry.lun->status() : failed_status(entry.name, entry.reason));
}

std::string unknown_name(const std::string& name) {
  return control_refusal(name + ": no such clone LUN here: `list` names them all", false);
}

std::string not_open(const LunRegistry::Entry& entry) {
  return control_refusal(entry.name + ": is not open: " + entry.reason, false);
}

std::string list(const LunRegistry& registry) {
  std::string array = "[";
  for (const LunRegistry::Entry& entry : registry.all()) {
    if (array.size() > 1) array += ',';
    array += entry_json(entry);
  }
  return success(array + "]");
}

std::string status(const LunRegistry& registry, const std::string& name) {
  const auto entry = registry.find(name);
  return entry ? success(entry_json(*entry)) : unknown_name(name);
}

std::string message(const LunRegistry& registry, const Words& words) {
  const std::string& name = words[1];
  const auto entry = registry.find(name);
  if (!entry) return unknown_name(name);
  if (!entry->lun) return not_open(*entry);
  std::string text = words[2];
  for (std::size_t i = 3; i < words.size(); ++i) text += ' ' + words[i];
  const Result<> done = entry->lun->message(text);
  if (done) return success("null");
  return control_refusal(done.error().message(), done.error().code == Errc::bad_config);
}

std::string forget(LunRegistry& registry, const std::string& name) {
  return registry.forget_failure(name)
             ? success("null")
             : control_refusal(name + ": no LUN of this name has failed: `list` names them all",
                               false);
}

// A verification runs in the device; whoever wants its result asks again and again.
std::string verify(const LunRegistry& registry, const Words& words) {
  VerifyAction action = VerifyAction::look;
  if (words.size() == 3) {
    if (words[2] != "start" && words[2] != "stop") {
      return control_refusal("verify: '" + words[2].substr(0, 40) + "': give start or stop", true);
    }
    action = words[2] == "start" ? VerifyAction::start : VerifyAction::stop;
  }
  const auto entry = registry.find(words[1]);
  if (!entry) return unknown_name(words[1]);
  if (!entry->lun) return not_open(*entry);
  const auto found = entry->lun->verify(action);
  if (found) return success(verification_json(*found));
  return control_refusal(words[1] + ": " + found.error().message(), false);
}

}  // namespace

std::string control_refusal(std::string_view error, bool usage) {
  nlohmann::ordered_json reply;
  reply["ok"] = false;
  reply["error"] = std::string(error);
  reply["usage"] = usage;
  // What a client sent may be quoted and need not be UTF-8.
  return reply.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string answer_control_line(LunRegistry& registry, std::string_view line, bool privileged) {
  const std::optional<Words> split_line = split(line);
  if (!split_line) {
    return control_refusal("request: a bad % escape: write % and two hexadecimal digits", true);
  }
  const Words& words = *split_line;
  const std::string command = words.empty() ? "" : words[0];
  const bool only_reads =
      command == "list" || command == "status" || (command == "verify" && words.size() == 2);
  if (!privileged && !only_reads) {
    return control_refusal("'" + command.substr(0, 40) + "': only root may do that: a user may " +
                               "ask for list, status NAME and verify NAME",
                           false);
  }
  if (command == "list" && words.size() == 1) return list(registry);
  if (command == "status" && words.size() == 2) return status(registry, words[1]);
  if (command == "message" && words.size() >= 3) return message(registry, words);
  if (command == "forget" && words.size() == 2) return forget(registry, words[1]);
  if (command == "verify" && (words.size() == 2 || words.size() == 3)) {
    return verify(registry, words);
  }
  constexpr std::string_view kForms =
      "give one of: list, status NAME, message NAME WORD..., verify NAME [start|stop], forget NAME";
  if (command == "list" || command == "status" || command == "message" || command == "verify" ||
      command == "forget") {
    return control_refusal(command + ": wrong number of words: " + std::string(kForms), true);
  }
  return control_refusal("'" + command.substr(0, 40) + "': no such command: " + std::string(kForms),
                         true);
}

}  // namespace clonedev
