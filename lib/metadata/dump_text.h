// The text form of metadata, line by line: docs/metadata-format.md, "The dump". Writing and
// reading, apart from where the lines go and come from.
//
// Memory: a line at a time. Thread: one.
#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <string>
#include <string_view>

#include "core/state_map.h"
#include "metadata/superblock.h"

struct XXH3_state_s;  // Of libxxhash.

namespace clonedev {

// Over the text, without the last line.
class TextDigest {
 public:
  TextDigest();
  ~TextDigest();
  TextDigest(const TextDigest&) = delete;
  TextDigest& operator=(const TextDigest&) = delete;
  void add(std::string_view text);
  std::string value() const;  // 16 hexadecimal digits.

 private:
  XXH3_state_s* state_;
};

// All lines before the runs: every field of the superblock but the references.
std::string dump_header(const Superblock& superblock);
std::string dump_run(const StateRun& run);
std::string dump_end(const TextDigest& digest);

// Reads a dump once, from its beginning to its end.
// Errors: Errc::damaged with the number of the line; Errc::refused for a newer form.
class DumpReader {
 public:
  explicit DumpReader(std::istream& in) : in_(in) {}

  // First. What it gives can be a superblock; it has no references.
  Result<Superblock> header();
  // The next run; they leave no gap. Nothing: the end, where it has to be, with a right digest.
  Result<std::optional<StateRun>> run();

 private:
  Result<std::string> line();
  Result<std::string> field(std::string_view key);
  template <class T>
  Result<> number(std::string_view key, T& value);
  Result<> id(std::string_view key, Id& value);
  Result<> text(std::string_view key, std::size_t longest, std::string& value);
  Result<> flags(Superblock& superblock);
  Result<std::optional<StateRun>> end(std::string_view digest);
  tl::unexpected<Error> wrong(const std::string& what) const;

  std::istream& in_;
  TextDigest digest_;
  std::uint64_t line_number_ = 0;
  std::uint64_t blocks_ = 0;
  std::uint64_t next_block_ = 0;
};

}  // namespace clonedev
