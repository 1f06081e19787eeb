// A stand-in for tcmu-runner: exports the symbols the handler needs and drives its callouts the way
// the daemon does, without a kernel. The program that links it must be built with ENABLE_EXPORTS,
// so that a dlopened handler_clone.so finds the symbols.
//
// What it copies from the daemon: the order handle_cmd, then callouts; completion through `done`;
// the checks of lengths and addresses, and those that it lacks; a sense buffer full of garbage.
// Its compound commands it does not have: the handler leaves none to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tcmu_abi.h"

namespace clonedev::testing {

using Bytes = std::vector<std::uint8_t>;

// dlopens the plugin as the daemon does, calls handler_init, returns what it registered; null and a
// message on stderr when that fails. Once a process.
tcmur_handler* load_handler(const std::string& path);

// The same for a plugin that is linked into the program: `init` is its handler_init.
tcmur_handler* start_handler(int (*init)());

// How long a command block with this operation code is; 0: libtcmu drops such commands.
std::size_t cdb_bytes(std::uint8_t opcode);

// What the handler wrote to the runner's log since the last call.
std::vector<std::string> take_log();

// What a handler may set in `open`, readable by tests.
struct HostAttributes {
  std::uint32_t max_xfer_len = 128;
  bool write_cache = false;
};

struct Reply {
  int status = 0;  // A TCMU_STS_.
  Bytes data;      // Data-in.
  std::array<std::uint8_t, TCMU_SENSE_BYTES> sense{};
  int completions = 0;  // Of the command as a whole: must be 1, or 0 when a callout refused it.
};

class HostLun {
 public:
  struct Setup {
    std::string name = "vm1";
    std::string config;  // "clone/..."
    std::uint64_t size_bytes = 0;
    std::uint32_t block_bytes = 512;
    std::string sys_dir;  // Where to put class/uio/uioN/name; TCMU_CLONE_SYS_DIR names it.
    std::string unit_serial = "0123abcd-4567-89ef-0123-456789abcdef";
  };

  HostLun(tcmur_handler& handler, Setup setup);
  ~HostLun();  // Closes if open.
  HostLun(const HostLun&) = delete;
  HostLun& operator=(const HostLun&) = delete;

  int open();
  void close();
  int reconfigure_config(const std::string& config);
  int reconfigure_size(std::uint64_t bytes);
  int reconfigure_write_cache(bool on);
  const HostAttributes& attributes() const;

  // One command, start to end, its data in the caller's own memory and pieces. `cdb` has
  // cdb_bytes() bytes. Waits as below.
  Reply execute(const Bytes& cdb, const std::vector<iovec>& buffers);
  // A READ, WRITE or SYNCHRONIZE CACHE that nobody waits for: `ended` gets its TCMU_STS_, once, on
  // the thread that completes it, or on this one when a callout refuses. The memory of `buffers`
  // lives until then.
  void start(const Bytes& cdb, const std::vector<iovec>& buffers, std::function<void(int)> ended);
  // One command, start to end. Data travels in pieces of at most 4 KiB, as a fragmented data area
  // has them; waits at most 60 s, then aborts the test program: a lost command is a bug.
  Reply execute(const Bytes& cdb, const Bytes& data_out = {}, std::size_t data_in = 0);

  // By bytes; the block size must divide them.
  Reply read(std::uint64_t offset, std::size_t length);
  Reply write(std::uint64_t offset, const Bytes& data, bool fua = false);
  Reply write_verify(std::uint64_t offset, const Bytes& data);
  Reply flush();
  Reply unmap(std::uint64_t offset, std::uint64_t length);
  Reply write_same(std::uint64_t offset, std::uint64_t length, const Bytes& block, bool unmap);
  Reply compare_and_write(std::uint64_t offset, const Bytes& expected, const Bytes& data);
  Reply inquiry(bool vital_product_data, std::uint8_t page);

 private:
  const std::unique_ptr<tcmu_device> device_;
};

}  // namespace clonedev::testing
