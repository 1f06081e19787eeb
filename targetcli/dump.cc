#include "metadata/dump.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "commands.h"
#include "metadata/metadata_check.h"
#include "metadata_file.h"

namespace clonectl {
namespace {

using clonedev::Errc;
using clonedev::Result;

struct DumpArguments {
  std::string meta;
  std::string output;  // Empty: the standard output.
};

// A file that appears under its name when it is whole and durable, so that a good dump is never
// lost to a bad one.
class OutputFile {
 public:
  explicit OutputFile(std::string path)
      : path_(std::move(path)), file_(std::fopen(temporary().c_str(), "wxe")) {
    if (!file_) fail_now("created");
  }
  ~OutputFile() {
    if (!file_) return;
    std::fclose(file_);
    ::unlink(temporary().c_str());
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  std::FILE* stream() { return file_; }
  void publish() {
    if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) fail_now("written");
    if (::rename(temporary().c_str(), path_.c_str()) != 0) fail_now("put in place");
    std::fclose(file_);
    file_ = nullptr;
  }

 private:
  std::string temporary() const { return path_ + ".new"; }
  [[noreturn]] void fail_now(const char* what) const {
    throw CommandError(ExitCode::failed, fmt::format("{}: cannot be {}: {}", temporary(), what,
                                                     std::strerror(errno)));
  }

  std::string path_;
  std::FILE* file_;
};

void dump_to(MetadataFile& meta, const clonedev::Superblock& superblock, std::FILE* stream) {
  const clonedev::TextSink sink = [&](std::string_view text) -> Result<> {
    if (std::fwrite(text.data(), 1, text.size(), stream) == text.size()) return {};
    return clonedev::fail(Errc::unavailable,
                          fmt::format("the output cannot be written: {}", std::strerror(errno)));
  };
  value_or_give_up(meta.run([&] { return dump_metadata(meta.device(), superblock, sink); }));
  if (std::fflush(stream) != 0) throw CommandError(ExitCode::failed, "cannot write the output");
}

void dump(const DumpArguments& arguments) {
  MetadataFile meta(open_metadata(arguments.meta, Access::read));
  const auto report =
      value_or_give_up(meta.run([&] { return clonedev::check_metadata(meta.device()); }));
  // Half a dump would be no backup. needs_check alone does not make the map worse.
  if (!report.map_sound) {
    throw CommandError(ExitCode::damaged, fmt::format("{}: {}: nothing was dumped", arguments.meta,
                                                      report.findings.front().text));
  }
  if (arguments.output.empty()) {
    dump_to(meta, *report.superblock, stdout);
    return;
  }
  OutputFile output(arguments.output);
  dump_to(meta, *report.superblock, output.stream());
  output.publish();
}

}  // namespace

void add_dump(CLI::App& app) {
  auto* command = app.add_subcommand("dump", "Write the metadata of a clone as text");
  auto arguments = std::make_shared<DumpArguments>();
  command->add_option("META", arguments->meta, "The metadata file or device")->required();
  command->add_option("-o,--output", arguments->output, "Not to the standard output")
      ->type_name("FILE");
  command->callback([arguments] { dump(*arguments); });
}

}  // namespace clonectl
