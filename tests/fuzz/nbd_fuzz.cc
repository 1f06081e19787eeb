// A hostile NBD server, driven by the input, and our origin in front of it.
//
// Input: one byte: bits 0-1 the handshake (0, 1 a proper one; 2 replies to options as the input
// says; 3 nothing but raw bytes), bit 2 structured replies, bit 3 a second connection, bits 4-5
// reads. Two bytes of size, in sectors. For each read three bytes: offset (two) and length, in
// sectors. The rest belongs to the server, action by action.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <thread>

#include "clonedev/clone_device.h"
#include "fuzz_input.h"
#include "origin/nbd_origin.h"
#include "property.h"
#include "support/hostile_nbd_server.h"
#include "support/run_on_reactor.h"

namespace clonedev::fuzz {
namespace {

using namespace std::chrono_literals;
using Bytes = HostilePeer::Bytes;
using Request = HostilePeer::Request;

constexpr auto kPatience = 20ms;
constexpr auto kLongest = 30s;  // Of one call; a busy machine may take many times the patience.
constexpr std::size_t kGuard = 4096;
constexpr std::size_t kMostBytes = 128 * 1024;
constexpr std::byte kUnwritten{0xee};

// What an honest server would have at this place; never kUnwritten and never zero.
std::uint8_t pattern(std::uint64_t offset) {
  return static_cast<std::uint8_t>(1 + (offset * 7 + offset / 512) % 200);
}

Bytes pattern_bytes(std::uint64_t offset, std::size_t length) {
  Bytes bytes(std::min(length, kMostBytes));
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = pattern(offset + i);
  return bytes;
}

// The server's side. All of its data is the pattern of the place it names, so data in the wrong
// place, or of the wrong length, shows. Not so once it sends raw bytes, or a simple reply of
// another length than was asked for, which the protocol cannot tell from a good one.
class Server {
 public:
  Server(FuzzInput& input, std::uint8_t choice, std::uint64_t size)
      : input_(input), choice_(choice), size_(size) {}

  void serve(HostilePeer& peer) {
    if (!shake_hands(peer)) return;
    Request request;
    while (peer.next(request)) {
      bool more = true;
      while (more) {
        const std::uint8_t action = input_.byte();
        more = (action & 0x80) != 0 && !input_.empty();
        if (!act(peer, request, action & 0x0f)) return;
      }
    }
  }

  bool sent_raw() const { return sent_raw_; }

 private:
  bool structured() const { return (choice_ & 4) != 0; }

  bool shake_hands(HostilePeer& peer) {
    switch (choice_ % 4) {
      case 2:
        return odd_handshake(peer);
      case 3:
        return raw(peer, 256);
      default:
        // Read-only, with flags as they are sent by real servers: multi-conn, flush.
        return peer.handshake(size_, structured(), (choice_ & 8) != 0 ? 0x107 : 0x007);
    }
  }

  bool odd_handshake(HostilePeer& peer) {
    if (!peer.greet(input_.byte())) return false;
    for (HostilePeer::Option option; peer.next(option);) {
      bool more = true;
      while (more) {
        const std::uint8_t kind = input_.byte();
        more = (kind & 0x80) != 0 && !input_.empty();
        const std::uint32_t code = (kind & 0x40) != 0 ? input_.byte() : option.code;
        if (!peer.option_reply(code, reply_type(kind), payload(64))) return false;
        // NBD_OPT_GO acknowledged: the transmission phase.
        if (option.code == 7 && reply_type(kind) == 1) return true;
      }
    }
    return false;
  }

  static std::uint32_t reply_type(std::uint8_t kind) {
    static constexpr std::array<std::uint32_t, 8> kTypes{
        1, 3, 4, 2, (1U << 31) + 1, (1U << 31) + 2, (1U << 31) + 6, 0x1234};
    return kTypes[kind & 7];
  }

  Bytes payload(std::size_t most) {
    const auto bytes = input_.bytes(input_.byte() % most);
    return {bytes.begin(), bytes.end()};
  }

  bool raw(HostilePeer& peer, std::size_t most) {
    sent_raw_ = true;
    return peer.send(payload(most));
  }

  bool act(HostilePeer& peer, const Request& request, std::uint8_t action) {
    switch (action) {
      case 0:
      case 1:
        return honest(peer, request);
      case 2:
        return peer.simple_reply(request, 1 + input_.byte() % 200U, {});
      case 3:
        sent_raw_ = true;
        return peer.simple_reply(
            request, 0, pattern_bytes(request.offset, request.length + input_.byte() - 128));
      case 4:
        return odd_data(peer, request);
      case 5:
        return hole(peer, request);
      case 6:
        return odd_cookie(peer, request);
      case 7:
        return block_status(peer, request);
      case 8:
        return raw(peer, 64);
      case 9:
        return false;  // Hangs up.
      case 10:
        return true;  // Says nothing.
      case 11:
        return error_chunk(peer, request);
      case 12:
        return odd_chunk(peer, request);
      default:
        return honest(peer, request);
    }
  }

  bool honest(HostilePeer& peer, const Request& request) {
    if (request.type == 7) return block_status(peer, request);
    const Bytes data = pattern_bytes(request.offset, request.length);
    if (!structured()) return peer.simple_reply(request, 0, data);
    return peer.data_chunk(request, true, request.offset, data);
  }

  // Where a chunk begins and how long it is: near the truth.
  Extent odd_extent(const Request& request) {
    const std::uint64_t offset =
        request.offset + 512 * static_cast<std::uint64_t>(static_cast<std::int8_t>(input_.byte()));
    const std::uint64_t length = input_.number(2) * 64;
    return {offset, length % (2 * std::uint64_t{request.length} + 1)};
  }

  bool odd_data(HostilePeer& peer, const Request& request) {
    const bool last = input_.flag();
    const Extent extent = odd_extent(request);
    return peer.data_chunk(request, last, extent.offset,
                           pattern_bytes(extent.offset, extent.length));
  }

  bool hole(HostilePeer& peer, const Request& request) {
    const bool last = input_.flag();
    const Extent extent = odd_extent(request);
    Bytes content;
    HostilePeer::put(content, extent.offset, 8);
    HostilePeer::put(content, extent.length, 4);
    return peer.chunk(request, last ? 1 : 0, 2, content);
  }

  bool odd_cookie(HostilePeer& peer, Request request) {
    request.cookie += input_.byte();
    return honest(peer, request);
  }

  bool block_status(HostilePeer& peer, const Request& request) {
    Bytes content;
    HostilePeer::put(content, input_.byte() % 8 == 7 ? 6 : 7, 4);  // The context it asked for: 7.
    const std::size_t entries = input_.byte() % 6;
    for (std::size_t i = 0; i < entries; ++i) {
      HostilePeer::put(content, input_.number(2) * 512, 4);
      HostilePeer::put(content, input_.byte(), 4);
    }
    return peer.chunk(request, 1, 5, content);
  }

  bool error_chunk(HostilePeer& peer, const Request& request) {
    Bytes content;
    HostilePeer::put(content, input_.byte(), 4);
    const Bytes text = payload(64);
    HostilePeer::put(content, text.size() + (input_.flag() ? 1 : 0), 2);
    content.insert(content.end(), text.begin(), text.end());
    return peer.chunk(request, input_.flag() ? 1 : 0, 0x8001, content);
  }

  bool odd_chunk(HostilePeer& peer, const Request& request) {
    const auto flags = static_cast<std::uint16_t>(input_.byte());
    const auto type =
        static_cast<std::uint16_t>(input_.flag() ? 0x8000 | input_.byte() : input_.byte());
    sent_raw_ = true;
    return peer.chunk(request, flags, type, payload(64));
  }

  FuzzInput& input_;
  const std::uint8_t choice_;
  const std::uint64_t size_;
  bool sent_raw_ = false;  // Read when the server has ended.
};

Reactor& reactor() {
  static Reactor* const one = new_reactor().release();
  return *one;
}

template <class Start>
auto timed(Start start) {
  const auto began = Scheduler::Clock::now();
  auto outcome = run_on(reactor(), start);
  promise(Scheduler::Clock::now() - began < kLongest, "no call hangs");
  return outcome;
}

void check_error(const Error& error) {
  promise(error.code == Errc::unavailable || error.code == Errc::origin_read ||
              error.code == Errc::refused,
          "a hostile server is unavailable, refused, or an error of the origin", error.message());
}

struct Read {
  std::uint64_t offset = 0;
  std::size_t length = 0;
  std::vector<std::byte> memory;  // Guard, buffer, guard.
  bool good = false;

  std::span<std::byte> buffer() { return std::span(memory).subspan(kGuard, length); }
};

void perform(NbdOrigin& origin, Read& read) {
  const std::uint64_t sectors = origin.size() / 512;
  if (sectors == 0) return;
  read.offset = read.offset % sectors * 512;
  read.length = std::min<std::uint64_t>(read.length * 512, origin.size() - read.offset);
  read.memory.assign(read.length + 2 * kGuard, kUnwritten);
  const std::span<std::byte> buffer = read.buffer();
  const Extent range{read.offset, read.length};
  const auto known = timed([&] { return origin.extents(range); });
  if (known) {
    std::uint64_t next = range.offset;
    for (const OriginExtent& part : *known) {
      promise(
          part.extent.offset == next && !part.extent.empty() && part.extent.end() <= range.end(),
          "extents follow one another inside what was asked for");
      next = part.extent.end();
    }
    promise(!known->empty(), "something is known of every range");
  } else {
    check_error(known.error());
  }
  const auto done = timed([&] { return origin.read(read.offset, buffer); });
  if (!done) check_error(done.error());
  read.good = done.has_value();
}

std::size_t threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

// A dial that was given up ends on its own. Until then LeakSanitizer takes its memory for lost.
void wait_for_dials(std::size_t threads_before) {
  const auto give_up = Scheduler::Clock::now() + 2s;
  while (threads() > threads_before && Scheduler::Clock::now() < give_up) {
    std::this_thread::sleep_for(1ms);
  }
}

// Data that was called good has to be what the server said of that very place.
void check_data(Read& read, bool sent_raw) {
  const auto guard = [&](std::size_t from) {
    const auto part = std::span(read.memory).subspan(from, kGuard);
    return std::all_of(part.begin(), part.end(), [](std::byte b) { return b == kUnwritten; });
  };
  promise(guard(0) && guard(kGuard + read.length), "nothing is written outside of the buffer");
  if (!read.good || sent_raw) return;
  const auto buffer = read.buffer();
  for (std::size_t i = 0; i < buffer.size(); ++i) {
    const std::byte wanted{pattern(read.offset + i)};
    if (buffer[i] != wanted && buffer[i] != std::byte{0}) {
      promise(false, "good data is what the server said of that place",
              "at " + std::to_string(read.offset + i));
    }
  }
}

}  // namespace
}  // namespace clonedev::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  clonedev::set_log_sink([](int, const char*) {});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace clonedev;
  using namespace clonedev::fuzz;
  FuzzInput input(data, size);
  const std::uint8_t choice = input.byte();
  const std::uint64_t bytes = (1 + input.number(2)) * 512;
  std::vector<Read> reads(1 + (choice >> 4) % 4);
  for (Read& read : reads) {
    read.offset = input.number(2);
    read.length = 1 + input.byte();
  }
  Server server(input, choice, bytes);
  reactor();
  const std::size_t threads_before = threads();
  {
    HostileNbdServer listener([&server](HostilePeer& peer) { server.serve(peer); });
    NbdOrigin origin(reactor(), listener.uri(), kPatience, (choice & 8) != 0 ? 2 : 1);
    const auto opened = timed([&] { return origin.open(); });
    if (opened) {
      promise(origin.size() > 0, "an open origin has a size");
      for (Read& read : reads) perform(origin, read);
    } else {
      check_error(opened.error());
    }
    run_on(reactor(), [&] { return origin.close(); });
  }
  wait_for_dials(threads_before);
  for (Read& read : reads) {
    if (!read.memory.empty()) check_data(read, server.sent_raw());
  }
  return 0;
}
