#include "engine/messages.h"

#include <charconv>

namespace clonedev {
namespace {

// The kernel compares the names of messages without regard to case.
std::string lower_case(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

Result<std::uint32_t> positive(const std::string& name, std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code == std::errc{} && end == text.data() + text.size() && value > 0) return value;
  return fail(Errc::bad_config, "message " + name +
                                    ": needs one whole number of regions, 1 or more" +
                                    (text == "0" ? " (disable_hydration stops hydration)" : ""));
}

}  // namespace

Result<Options> apply_message(std::string_view words, Options options) {
  const std::size_t blank = words.find(' ');
  const std::string name = lower_case(words.substr(0, blank));
  const std::string_view value = blank == words.npos ? "" : words.substr(blank + 1);
  if (name == "enable_hydration" || name == "disable_hydration") {
    if (!value.empty()) {
      return fail(Errc::bad_config, "message " + name + ": takes no further word");
    }
    options.hydration = name == "enable_hydration";
    return options;
  }
  if (name == "hydration_threshold" || name == "hydration_batch_size") {
    const auto number = positive(name, value);
    if (!number) return fail(number.error());
    (name == "hydration_threshold" ? options.hydration_threshold : options.hydration_batch_size) =
        *number;
    return options;
  }
  return fail(Errc::bad_config,
              "message " + name.substr(0, 40) +
                  ": is unknown; there are enable_hydration, disable_hydration, "
                  "hydration_threshold N, hydration_batch_size N and clear_needs_check");
}

}  // namespace clonedev
