#include "metadata/dump_text.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <charconv>
#include <memory>
#include <utility>
#include <vector>

#include "core/config_value.h"
#include "metadata/disk_format.h"

namespace clonedev {
namespace {

constexpr std::string_view kTitle = "tcmu-clone-metadata 1";
constexpr std::size_t kLongestLine = 4096;

struct Flag {
  std::string_view name;
  bool Superblock::*member;
};
constexpr std::array<Flag, 3> kFlags{{{"clean", &Superblock::clean},
                                      {"complete", &Superblock::complete},
                                      {"needs_check", &Superblock::needs_check}}};

// What would end a line or a word, and bytes that are not ASCII, as RFC 3986 escapes.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7f && c != '%') {
      out += c;
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

std::string line_of(std::string_view key, const std::string& value) {
  return value.empty() ? fmt::format("{}\n", key) : fmt::format("{} {}\n", key, value);
}

std::string flag_words(const Superblock& superblock) {
  std::string words;
  for (const Flag& flag : kFlags) {
    if (superblock.*flag.member) words += (words.empty() ? "" : " ") + std::string(flag.name);
  }
  return words;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t blank = line.find(' ');
    words.push_back(line.substr(0, blank));
    if (blank == std::string_view::npos) return words;
    line.remove_prefix(blank + 1);
  }
}

// Decimal digits and nothing else.
template <class T>
bool parse(std::string_view text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc() && stop == end;
}

}  // namespace

TextDigest::TextDigest() : state_(XXH3_createState()) { XXH3_64bits_reset(state_); }
TextDigest::~TextDigest() { XXH3_freeState(state_); }

void TextDigest::add(std::string_view text) {
  XXH3_64bits_update(state_, text.data(), text.size());
}

std::string TextDigest::value() const { return fmt::format("{:016x}", XXH3_64bits_digest(state_)); }

std::string dump_header(const Superblock& superblock) {
  const auto number = [](std::uint64_t value) { return fmt::format("{}", value); };
  return fmt::format("{}\n", kTitle) + line_of("uuid", id_text(superblock.uuid)) +
         line_of("name", escaped(superblock.name)) +
         line_of("size_bytes", number(superblock.size_bytes)) +
         line_of("region_size", number(superblock.region_size)) +
         line_of("units", number(superblock.units)) +
         line_of("sequence", number(superblock.sequence)) +
         line_of("flags", flag_words(superblock)) + line_of("reason", escaped(superblock.reason)) +
         line_of("attach_id", id_text(superblock.attach_id)) +
         line_of("boot_id", id_text(superblock.boot_id)) +
         line_of("machine_id", id_text(superblock.machine_id)) +
         line_of("origin_size", number(superblock.origin_size)) +
         line_of("origin_identity", escaped(superblock.origin_identity)) +
         line_of("destination_identity", escaped(superblock.destination_identity));
}

std::string dump_run(const StateRun& run) {
  return fmt::format("{} {} {}\n", name_of(run.state), run.blocks.first, run.blocks.count);
}

std::string dump_end(const TextDigest& digest) { return fmt::format("end {}\n", digest.value()); }

tl::unexpected<Error> DumpReader::wrong(const std::string& what) const {
  return fail(Errc::damaged, fmt::format("dump: line {}: {}", line_number_, what));
}

// Not yet in the digest: the last line is not part of it.
Result<std::string> DumpReader::line() {
  ++line_number_;
  std::string line;
  for (int c = in_.get(); c != '\n'; c = in_.get()) {
    if (c == std::istream::traits_type::eof()) return wrong("the text ends too early");
    if (line.size() == kLongestLine) return wrong("is too long");
    line += static_cast<char>(c);
  }
  return line;
}

Result<std::string> DumpReader::field(std::string_view key) {
  auto whole = line();
  if (!whole) return whole;
  digest_.add(*whole);
  digest_.add("\n");
  if (*whole == key) return std::string();
  if (!whole->starts_with(std::string(key) + " ")) {
    return wrong(fmt::format("'{}' is expected here", key));
  }
  return whole->substr(key.size() + 1);
}

template <class T>
Result<> DumpReader::number(std::string_view key, T& value) {
  const auto word = field(key);
  if (!word) return fail(word.error());
  if (!parse(*word, value)) return wrong(fmt::format("{} is not a number", key));
  return {};
}

Result<> DumpReader::id(std::string_view key, Id& value) {
  const auto word = field(key);
  if (!word) return fail(word.error());
  const auto id = id_from_text(*word);
  if (!id || id_text(*id) != *word) return wrong(fmt::format("{} is not an identity", key));
  value = *id;
  return {};
}

Result<> DumpReader::text(std::string_view key, std::size_t longest, std::string& value) {
  const auto word = field(key);
  if (!word) return fail(word.error());
  auto decoded = config::percent_decode(*word);
  if (!decoded || escaped(*decoded) != *word) return wrong(fmt::format("{}: a bad escape", key));
  if (decoded->size() > longest || decoded->find('\0') != std::string::npos) {
    return wrong(fmt::format("{} is too long, or holds a NUL", key));
  }
  value = std::move(*decoded);
  return {};
}

Result<> DumpReader::flags(Superblock& superblock) {
  const auto words = field("flags");
  if (!words) return fail(words.error());
  for (const Flag& flag : kFlags) superblock.*flag.member = false;
  for (const std::string_view word : words_of(*words)) {
    for (const Flag& flag : kFlags) {
      if (word == flag.name) superblock.*flag.member = true;
    }
  }
  if (flag_words(superblock) != *words) return wrong("an unknown flag, or in another order");
  return {};
}

Result<Superblock> DumpReader::header() {
  const auto title = line();
  if (!title) return fail(title.error());
  if (*title != kTitle) {
    return fail(title->starts_with("tcmu-clone-metadata ") ? Errc::refused : Errc::damaged,
                fmt::format("dump: does not begin with '{}': it is something else, or of a newer "
                            "version of tcmu-clone",
                            kTitle));
  }
  digest_.add(*title);
  digest_.add("\n");
  Superblock core;
  Result<> good = id("uuid", core.uuid);
  if (good) good = text("name", Superblock::kMaxName, core.name);
  if (good) good = number("size_bytes", core.size_bytes);
  if (good) good = number("region_size", core.region_size);
  if (good) good = number("units", core.units);
  if (good) good = number("sequence", core.sequence);
  if (good) good = flags(core);
  if (good) good = text("reason", Superblock::kMaxText, core.reason);
  if (good) good = id("attach_id", core.attach_id);
  if (good) good = id("boot_id", core.boot_id);
  if (good) good = id("machine_id", core.machine_id);
  if (good) good = number("origin_size", core.origin_size);
  if (good) good = text("origin_identity", Superblock::kMaxText, core.origin_identity);
  if (good) good = text("destination_identity", Superblock::kMaxText, core.destination_identity);
  if (!good) return fail(good.error());
  core.depth = depth_for(pages_for(core.size_bytes));
  // The rules are those of the superblock itself.
  const auto unit = std::make_unique<Unit>();
  pack(core, *unit);
  auto possible = unpack_superblock(*unit, core.sequence % kSuperblockSlots);
  if (!possible) return wrong("the lines before cannot be true: " + possible.error().message());
  blocks_ = Geometry(core.size_bytes, core.region_size).blocks();
  return possible;
}

Result<std::optional<StateRun>> DumpReader::run() {
  const auto whole = line();
  if (!whole) return fail(whole.error());
  const auto words = words_of(*whole);
  if (words[0] == "end" && words.size() <= 2) return end(words.size() == 2 ? words[1] : "");
  digest_.add(*whole);
  digest_.add("\n");
  const auto state = state_named(words[0]);
  StateRun run{{}, BlockState::origin};
  if (words.size() != 3 || !state || !parse(words[1], run.blocks.first) ||
      !parse(words[2], run.blocks.count)) {
    return wrong("is not STATE FIRST COUNT, with a state that this version knows");
  }
  run.state = *state;
  if (run.blocks.first != next_block_ || run.blocks.empty() ||
      run.blocks.count > blocks_ - next_block_) {
    return wrong(
        fmt::format("a run of blocks from {} to {} at most is expected", next_block_, blocks_ - 1));
  }
  next_block_ = run.blocks.end();
  return run;
}

// An "end" alone is for whoever has changed the text by hand.
Result<std::optional<StateRun>> DumpReader::end(std::string_view digest) {
  if (next_block_ != blocks_) {
    return wrong(fmt::format("ends with block {} of {}", next_block_, blocks_));
  }
  if (!digest.empty() && digest != digest_.value()) {
    return wrong("the text is not what was dumped: after a change by hand, write 'end' alone");
  }
  if (in_.get() != std::istream::traits_type::eof()) return wrong("something follows the end");
  return std::nullopt;
}

}  // namespace clonedev
