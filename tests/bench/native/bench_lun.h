// A LUN to measure: the real handler_clone.so in the stand-in host, over a new destination and new
// metadata, which are removed at the end.
//
// Threads: one, but for start(), whose completions come on the handler's. Errors: a sentence on
// stderr and exit status 1: a measurement that failed has no result.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/plugin_site.h"

namespace clonedev::bench {

// The command line's options that all measurements share.
struct LunOptions {
  std::string origin;  // As the key origin= has it.
  std::string folder;  // For destination and metadata; what it lies on decides the cache mode.
  std::uint64_t size_bytes = 0;
  std::vector<std::string> settings;  // More keys: "copy_on_read=off".
  bool allocated = false;  // The destination's space is, as a block device's is; else it is sparse.
};

[[noreturn]] void give_up(const std::string& sentence);

class BenchLun {
 public:
  BenchLun(testing::PluginSite& site, const std::string& name, const LunOptions& options);
  ~BenchLun();
  BenchLun(const BenchLun&) = delete;
  BenchLun& operator=(const BenchLun&) = delete;

  // By bytes, multiples of 512; wait for the end.
  void read(std::uint64_t offset, void* data, std::size_t length);
  void write(std::uint64_t offset, void* data, std::size_t length);
  void flush();
  // Not waited for; a failure gives up.
  void start_read(std::uint64_t offset, void* data, std::size_t length,
                  std::function<void()> ended);
  void start_write(std::uint64_t offset, void* data, std::size_t length,
                   std::function<void()> ended);

  // As the control socket tells it (docs/clonectl.8, schema 1).
  nlohmann::json status() const;
  // dm-clone's messages, such as enable_hydration.
  void message(const std::string& words);
  void wait_until_complete();
  const std::string& destination() const { return destination_; }

 private:
  void start(std::uint8_t opcode, std::uint64_t offset, const iovec& memory,
             std::function<void()> ended);
  nlohmann::json ask(const std::string& line) const;

  testing::PluginSite& site_;
  const std::string name_;
  const std::string destination_;
  const std::string metadata_;
  std::unique_ptr<testing::HostLun> lun_;
};

}  // namespace clonedev::bench
