// The config string and the conf file.
//
// Input: one byte that chooses; then the string itself, or (conf file) one byte of length, the
// config string's live keys, and the file's text.
#include <algorithm>
#include <cstring>
#include <string>

#include "clonedev/options.h"
#include "core/config_parser.h"
#include "core/config_value.h"
#include "fuzz_input.h"
#include "origin/origin_factory.h"
#include "origin/origin_name.h"
#include "property.h"

namespace clonedev::fuzz {
namespace {

constexpr std::size_t kLongestSentence = 1024;

Reactor& reactor() {
  static Reactor* const one = Reactor::create()->release();
  return *one;
}

// User names and passwords that hold the word "sesame": what stands between "://" and "@". One that
// stands somewhere else, too, proves nothing.
void add_secrets(std::string_view text, std::vector<std::string>& secrets) {
  for (std::size_t at = text.find("://"); at != std::string_view::npos;
       at = text.find("://", at + 3)) {
    const std::size_t end = std::min(text.find_first_of("/?#;\r\n", at + 3), text.size());
    const std::string_view authority = text.substr(at + 3, end - at - 3);
    const std::string_view secret = authority.substr(0, std::min(authority.rfind('@'), end));
    if (secret.size() == authority.size() || secret.find("sesame") == std::string_view::npos) {
      continue;
    }
    if (text.find(secret) == text.rfind(secret)) secrets.emplace_back(secret);
  }
}

std::vector<std::string> secrets_in(std::string_view text) {
  std::vector<std::string> secrets;
  add_secrets(text, secrets);
  if (const auto decoded = config::percent_decode(text)) add_secrets(*decoded, secrets);
  return secrets;
}

void check_sentence(const std::string& sentence, const std::vector<std::string>& secrets) {
  promise(!sentence.empty(), "a refusal says why");
  promise(sentence.size() <= kLongestSentence, "a sentence is short", sentence);
  const auto odd = [](unsigned char c) { return c < 0x20 || c >= 0x7f; };
  promise(std::none_of(sentence.begin(), sentence.end(), odd),
          "a sentence is one line of ASCII, as D-Bus wants it", sentence);
  for (const std::string& secret : secrets) {
    promise(sentence.find(secret) == std::string::npos, "no secret is shown", sentence);
  }
}

bool printable(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

void check_limits(const Options& options) {
  promise(options.region_size >= 4096 && options.region_size <= std::uint64_t{1} << 30 &&
              (options.region_size & (options.region_size - 1)) == 0,
          "region_size is a power of two from 4k to 1g");
  promise(options.origin_timeout_ms >= 100 && options.origin_timeout_ms <= 29'000,
          "origin_timeout is from 100 ms to 29 s");
  for (const std::string* text : {&options.origin, &options.dest, &options.meta, &options.conf}) {
    promise(printable(*text), "no value holds a control character", *text);
  }
  promise(options.dest.empty() || options.dest.front() == '/', "dest is an absolute path");
  promise(options.meta.empty() || options.meta.front() == '/', "meta is an absolute path");
  promise(options.conf.find('/') == std::string::npos && !options.conf.starts_with('.'),
          "conf is a plain file name", options.conf);
  promise(options.first_static_difference(options) == nullptr, "options are equal to themselves");
}

void check_origin(const std::string& origin) {
  const auto factory = origin_factory(origin, reactor(), {});
  promise(factory.has_value(), "what the parser takes for an origin can be opened as one", origin);
  if (origin.find("://") != origin.rfind("://")) return;  // A path may hold another URI.
  std::vector<std::string> secrets;
  add_secrets(origin, secrets);
  for (const std::string& secret : secrets) {
    promise(origin_name(origin).find(secret) == std::string::npos, "an origin's name is no secret");
  }
}

std::string on(bool value) { return value ? "on" : "off"; }
std::string count(std::uint32_t value) { return value == 0 ? "auto" : std::to_string(value); }

// Every setting of a whole clone, by name.
std::vector<std::pair<std::string, std::string>> settings_of(const Options& o) {
  std::vector<std::pair<std::string, std::string>> settings{
      {"origin", o.origin},
      {"dest", o.dest},
      {"region_size", std::to_string(o.region_size)},
      {"write_cache", on(o.write_cache)},
      {"hydration", on(o.hydration)},
      {"hydration_threshold", count(o.hydration_threshold)},
      {"hydration_batch_size", count(o.hydration_batch_size)},
      {"discard_passdown", on(o.discard_passdown)},
      {"origin_timeout", std::to_string(o.origin_timeout_ms) + "ms"},
      {"on_origin_loss", o.on_origin_loss == OriginLoss::busy ? "busy" : "error"}};
  if (!o.meta.empty()) settings.emplace_back("meta", o.meta);
  for (const std::string& alternate : o.alternates) settings.emplace_back("alternate", alternate);
  if (o.init_overwrite) settings.emplace_back("init", "overwrite");
  return settings;
}

std::string encoded(const std::string& value) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string text;
  for (const char character : value) {
    const auto c = static_cast<unsigned char>(character);
    text += '%';
    text += kHex[c >> 4];
    text += kHex[c & 15];
  }
  return text;
}

void check_same(const Options& options, const Result<Options>& again) {
  promise(again.has_value(), "what was accepted is accepted when it is written out",
          again ? "" : again.error().message());
  promise(settings_of(options) == settings_of(*again), "settings survive being written and read");
}

void check_rereading(const Options& options) {
  std::string string = "clone/";
  std::string file;
  bool trimmed = false;  // A conf file cannot hold blanks at the ends of a value.
  for (const auto& [key, value] : settings_of(options)) {
    string += key + '=' + encoded(value) + ';';
    file += key + " = " + value + '\n';
    trimmed |= value.front() == ' ' || value.back() == ' ';
  }
  string.pop_back();
  if (string.size() <= 254) check_same(options, parse_config(string));
  if (!trimmed) check_same(options, parse_conf_text(file, "again.conf", "clone/conf=again"));
}

void check(const Result<Options>& parsed, const std::vector<std::string>& secrets) {
  if (!parsed) {
    promise(parsed.error().code == Errc::bad_config, "a refusal is Errc::bad_config");
    check_sentence(parsed.error().message(), secrets);
    return;
  }
  check_limits(*parsed);
  for (const std::string& warning : parsed->warnings) check_sentence(warning, secrets);
  if (parsed->origin.empty()) {
    promise(!parsed->conf.empty(), "only a string with conf= has no origin");
    return;
  }
  check_origin(parsed->origin);
  check_rereading(*parsed);
}

}  // namespace
}  // namespace clonedev::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace clonedev;
  using namespace clonedev::fuzz;
  FuzzInput input(data, size);
  if (input.byte() % 2 == 0) {
    const std::string config(input.rest());
    check(parse_config(config), secrets_in(config));
    return 0;
  }
  const std::string config = "clone/conf=vm1;" + std::string(input.text(input.byte()));
  const std::string text(input.rest());
  check(parse_conf_text(text, "vm1.conf", config), secrets_in(text));
  return 0;
}
