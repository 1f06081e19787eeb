#include "bench/native/bench_lun.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace clonedev::bench {
namespace {

using testing::Bytes;
using testing::HostLun;

// A value in the config string: its few characters of meaning are written as %XX.
std::string escaped(const std::string& value) {
  std::string text;
  for (const char c : value) {
    if (std::string_view("%;:, |'\"").find(c) == std::string_view::npos) {
      text += c;
    } else {
      text += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return text;
}

Bytes cdb16(std::uint8_t opcode, std::uint64_t lba, std::uint64_t blocks) {
  Bytes cdb(16);
  cdb[0] = opcode;
  for (std::size_t i = 0; i < 8; ++i) cdb[2 + i] = static_cast<std::uint8_t>(lba >> (56 - 8 * i));
  for (std::size_t i = 0; i < 4; ++i) {
    cdb[10 + i] = static_cast<std::uint8_t>(blocks >> (24 - 8 * i));
  }
  return cdb;
}

constexpr std::uint8_t kRead16 = 0x88;
constexpr std::uint8_t kWrite16 = 0x8a;
constexpr std::uint64_t kSector = 512;

// Writes it, since space that is only reserved costs the first write in it as much as a hole does.
void allocate(const std::string& path, std::uint64_t size_bytes) {
  std::ofstream file(path, std::ios::binary);
  const std::string chunk(1 << 20, '\x5a');
  for (std::uint64_t at = 0; at < size_bytes; at += chunk.size()) file << chunk;
  file.close();
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (!file || fd < 0 || ::fsync(fd) != 0) give_up(path + ": cannot be written");
  ::close(fd);
}

void expect_good(int status, const char* what) {
  if (status == TCMU_STS_OK) return;
  std::string log;
  for (const std::string& line : testing::take_log()) log += "\n  " + line;
  give_up(fmt::format("{}: TCMU status {}; the log:{}", what, status, log));
}

}  // namespace

void give_up(const std::string& sentence) {
  fmt::print(stderr, "clone_bench: {}\n", sentence);
  // Not exit(): the handler's threads are at work on what destructors would take away.
  std::_Exit(1);
}

BenchLun::BenchLun(testing::PluginSite& site, const std::string& name, const LunOptions& options)
    : site_(site),
      name_(name),
      destination_(options.folder + "/" + name + ".img"),
      metadata_(options.folder + "/" + name + ".meta") {
  std::filesystem::remove(destination_);
  std::filesystem::remove(metadata_);
  std::string config = fmt::format("clone/origin={};dest={};meta={}", escaped(options.origin),
                                   escaped(destination_), escaped(metadata_));
  if (options.allocated) {
    allocate(destination_, options.size_bytes);
    config += ";init=overwrite";
  }
  for (const std::string& setting : options.settings) config += ";" + setting;
  lun_ = std::make_unique<HostLun>(*site.handler(), HostLun::Setup{.name = name,
                                                                   .config = config,
                                                                   .size_bytes = options.size_bytes,
                                                                   .sys_dir = site.sys_dir()});
  expect_good(lun_->open(), "open");
}

BenchLun::~BenchLun() {
  lun_.reset();
  std::filesystem::remove(destination_);
  std::filesystem::remove(metadata_);
}

void BenchLun::read(std::uint64_t offset, void* data, std::size_t length) {
  expect_good(
      lun_->execute(cdb16(kRead16, offset / kSector, length / kSector), {{data, length}}).status,
      "read");
}

void BenchLun::write(std::uint64_t offset, void* data, std::size_t length) {
  expect_good(
      lun_->execute(cdb16(kWrite16, offset / kSector, length / kSector), {{data, length}}).status,
      "write");
}

void BenchLun::flush() { expect_good(lun_->flush().status, "flush"); }

void BenchLun::start(std::uint8_t opcode, std::uint64_t offset, const iovec& memory,
                     std::function<void()> ended) {
  lun_->start(cdb16(opcode, offset / kSector, memory.iov_len / kSector), {memory},
              [ended = std::move(ended)](int status) {
                expect_good(status, "a command");
                ended();
              });
}

void BenchLun::start_read(std::uint64_t offset, void* data, std::size_t length,
                          std::function<void()> ended) {
  start(kRead16, offset, {data, length}, std::move(ended));
}

void BenchLun::start_write(std::uint64_t offset, void* data, std::size_t length,
                           std::function<void()> ended) {
  start(kWrite16, offset, {data, length}, std::move(ended));
}

nlohmann::json BenchLun::ask(const std::string& line) const {
  const std::string reply = site_.ask_control(line + "\n");
  auto json = nlohmann::json::parse(reply, nullptr, false);
  if (json.is_discarded() || !json.value("ok", false)) give_up(line + ": " + reply);
  return json["result"];
}

nlohmann::json BenchLun::status() const { return ask("status " + name_); }

void BenchLun::message(const std::string& words) { ask("message " + name_ + " " + words); }

void BenchLun::wait_until_complete() {
  using namespace std::chrono;
  constexpr auto kPatience = minutes(20);
  constexpr double kNearTheEnd = 0.1;
  const auto until = steady_clock::now() + kPatience;
  while (true) {
    const nlohmann::json now = status();
    if (now["state"] == "complete") return;
    if (now["state"] == "failed" || steady_clock::now() > until) {
      give_up("hydration did not end: " + now.dump());
    }
    // Rarely at first: looking takes time from what is measured.
    const double left =
        now["blocks"]["origin"].get<double>() / now["blocks"]["total"].get<double>();
    std::this_thread::sleep_for(left > kNearTheEnd ? milliseconds(50) : milliseconds(5));
  }
}

}  // namespace clonedev::bench
