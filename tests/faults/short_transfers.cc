#include "faults/short_transfers.h"

#include <dlfcn.h>
#include <liburing.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <vector>

namespace clonedev {
namespace {

std::atomic<std::uint64_t> made_short = 0;
std::atomic<ino_t> chosen_inode = 0;
std::atomic<dev_t> chosen_device = 0;

bool chosen(int fd) {
  struct stat info {};
  return chosen_inode != 0 && ::fstat(fd, &info) == 0 && info.st_ino == chosen_inode &&
         info.st_dev == chosen_device;
}

// The first half of a transfer. The kernel copies the list when it takes the entry.
using Cut = std::vector<iovec>;

void cut_in_half(io_uring_sqe& entry, Cut& cut) {
  const auto* list = reinterpret_cast<const iovec*>(entry.addr);
  std::size_t total = 0;
  for (unsigned i = 0; i < entry.len; ++i) total += list[i].iov_len;
  if (total < 2) return;
  for (std::size_t left = total / 2; left > 0; left -= cut.back().iov_len) {
    const iovec& next = list[cut.size()];
    cut.push_back({next.iov_base, std::min(left, next.iov_len)});
  }
  entry.addr = reinterpret_cast<std::uint64_t>(cut.data());
  entry.len = static_cast<unsigned>(cut.size());
  ++made_short;
}

// What is queued and not yet the kernel's.
void cut_queued(io_uring& ring) {
  static thread_local std::vector<Cut> cuts;
  cuts.clear();
  for (unsigned at = ring.sq.sqe_head; at != ring.sq.sqe_tail; ++at) {
    io_uring_sqe& entry = ring.sq.sqes[at & ring.sq.ring_mask];
    const bool transfer = entry.opcode == IORING_OP_READV || entry.opcode == IORING_OP_WRITEV;
    if (transfer && chosen(entry.fd)) cut_in_half(entry, cuts.emplace_back());
  }
}

template <class F>
F* real(const char* name, F*) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

void make_transfers_short(const std::string& path) {
  struct stat info {};
  chosen_inode = ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
  chosen_device = info.st_dev;
}

std::uint64_t transfers_made_short() { return made_short; }

}  // namespace clonedev

// Instead of liburing's, for the whole program.
extern "C" {

[[gnu::visibility("default")]] int io_uring_submit(io_uring* ring) {
  static auto* const submit = clonedev::real("io_uring_submit", &io_uring_submit);
  clonedev::cut_queued(*ring);
  return submit(ring);
}

[[gnu::visibility("default")]] int io_uring_submit_and_get_events(io_uring* ring) {
  static auto* const submit =
      clonedev::real("io_uring_submit_and_get_events", &io_uring_submit_and_get_events);
  clonedev::cut_queued(*ring);
  return submit(ring);
}

[[gnu::visibility("default")]] int io_uring_submit_and_wait(io_uring* ring, unsigned wait) {
  static auto* const submit = clonedev::real("io_uring_submit_and_wait", &io_uring_submit_and_wait);
  clonedev::cut_queued(*ring);
  return submit(ring, wait);
}

[[gnu::visibility("default")]] int io_uring_submit_and_wait_timeout(io_uring* ring,
                                                                    io_uring_cqe** entry,
                                                                    unsigned wait,
                                                                    __kernel_timespec* time,
                                                                    sigset_t* signals) {
  static auto* const submit =
      clonedev::real("io_uring_submit_and_wait_timeout", &io_uring_submit_and_wait_timeout);
  clonedev::cut_queued(*ring);
  return submit(ring, entry, wait, time, signals);
}
}
