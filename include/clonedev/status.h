// What a clone tells about itself. Units in the names.
#pragma once

#include <cstdint>
#include <string>

namespace clonedev {

enum class CloneState { hydrating, paused, complete, failed };
enum class CloneMode { rw, ro, fail };

struct BlockCounts {
  std::uint64_t origin = 0;
  std::uint64_t zero = 0;
  std::uint64_t destination = 0;  // The copied ones included.
  std::uint64_t copied = 0;       // Of these: copied from the origin, and not written since.
  std::uint64_t total() const { return origin + zero + destination; }
};

struct Status {
  std::string name;
  CloneState state = CloneState::hydrating;
  CloneMode mode = CloneMode::rw;
  std::uint64_t size_bytes = 0;
  std::uint64_t region_bytes = 0;
  BlockCounts blocks;
  struct {
    std::uint64_t hydrated = 0;  // No block of the region needs the origin any more.
    std::uint64_t hydrating = 0;
    std::uint64_t total = 0;
  } regions;
  struct {
    bool enabled = true;
    std::uint64_t rate_bytes_per_s = 0;
    bool eta_known = false;
    std::uint64_t eta_s = 0;
    std::uint32_t threshold = 0;  // Effective, in regions.
    std::uint32_t batch = 0;
    bool copy_on_read = true;
    std::uint64_t rate_limit = 0;  // Bytes a second; 0: none.
    std::uint64_t min_rate = 0;    // Effective.
    std::string held_up_by;  // Why the destination takes no copies at the moment; empty: it does.
  } hydration;
  struct {
    std::string state;       // connecting, connected, down, closed.
    std::string using_spec;  // Which of origin and alternates is read from; empty: none now.
    std::string last_error;  // Empty: none.
    std::uint64_t bytes_read = 0;
  } origin;
  struct Errors {
    std::uint64_t origin_read = 0;
    std::uint64_t destination = 0;
    std::uint64_t metadata = 0;
    std::uint64_t busy = 0;  // Commands answered BUSY because the origin did not answer in time.
    std::uint64_t origin_lost = 0;  // Commands failed at once because of on_origin_loss=error.
    std::uint64_t mismatch = 0;     // Ranges that a verification found to differ from the origin.
  } errors;
  struct {
    std::uint64_t used_units = 0;  // Of 4 KiB.
    std::uint64_t total_units = 0;
    std::uint64_t commits = 0;
  } metadata;
  bool discard_passdown = true;
  bool write_cache = true;
  bool destination_direct = false;  // O_DIRECT is on.
  std::string io;                   // Who does the I/O: io_uring or threads; empty: nobody.
  std::string reason;               // Why it failed; empty otherwise.
};

// dm-clone's own status line, field for field, with effective numbers:
// Documentation/admin-guide/device-mapper/dm-clone.rst, "Status".
std::string dm_status_line(const Status& status);

// One JSON object, schema 1 (docs/clonectl.8); fields are only ever added.
std::string status_json(const Status& status);

}  // namespace clonedev
