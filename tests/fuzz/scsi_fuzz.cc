// SCSI commands to the real handler in the stand-in for the daemon, over files on tmpfs, against a
// model of the disk.
//
// Input: one byte: bit 0 block size 512 or 4096, bit 1 reopen at the end, bit 2 no write cache.
// Then commands:
//   operation   an index into kOperations, or, from kRaw on, 16 raw bytes of a command block follow
//   flags       byte 1 of the command block
//   address     two bytes, in blocks; 0xffxx: far outside
//   blocks      one byte
//   layout      low nibble: size of the pieces of memory; bit 4: they begin off by one sector;
//               bit 5: the data is one byte too long, bit 6: too short
//   fill        what is written; then what the parameter lists of UNMAP, EXTENDED COPY and FORMAT
//               UNIT are made of
// handler/main.cc is part of the program, so that libFuzzer sees all of the handler.
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>

#include "fuzz_input.h"
#include "property.h"
#include "scratch.h"
#include "scsi/inquiry.h"
#include "support/runner_host.h"

extern "C" int handler_init(void);

namespace clonedev::fuzz {
namespace {

using testing::Bytes;
using testing::HostLun;
using testing::Reply;

constexpr std::uint64_t kDiskBytes = 256 * 1024;
constexpr std::size_t kMostCommands = 48;
constexpr std::size_t kGuard = 64;
constexpr std::uint8_t kGuardByte = 0xa5;
constexpr std::uint8_t kRaw = 200;

constexpr std::array<std::uint8_t, 36> kOperations{
    0x08, 0x28, 0xa8, 0x88,        // READ
    0x0a, 0x2a, 0xaa, 0x8a,        // WRITE
    0x2e, 0xae, 0x8e,              // WRITE AND VERIFY
    0x2f, 0xaf, 0x8f,              // VERIFY
    0x35, 0x91, 0x34, 0x90,        // SYNCHRONIZE CACHE, PRE-FETCH
    0x42, 0x41, 0x93, 0x8b, 0x89,  // UNMAP, WRITE SAME, ORWRITE, COMPARE AND WRITE
    0x83, 0x84,                    // EXTENDED COPY, RECEIVE COPY RESULTS
    0x04, 0x12, 0x00, 0x03, 0x1a, 0x5a, 0x37, 0xb7, 0x9e, 0xa3, 0x7f};

void put(Bytes& into, std::size_t at, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) {
    into[at + i] = static_cast<std::uint8_t>(value >> 8 * (bytes - 1 - i));
  }
}

std::uint64_t get(const Bytes& from, std::size_t at, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | from[at + i];
  return value;
}

// Address and length of a data command.
struct Range {
  std::uint64_t lba = 0;
  std::uint64_t blocks = 0;
};

Range range_of(const Bytes& cdb) {
  switch (cdb.size()) {
    case 6:
      return {get(cdb, 1, 3) & 0x1fffff, cdb[4] != 0 ? cdb[4] : 256u};
    case 10:
      return {get(cdb, 2, 4), get(cdb, 7, 2)};
    case 12:
      return {get(cdb, 2, 4), get(cdb, 6, 4)};
    default:
      return {get(cdb, 2, 8), cdb[0] == 0x89 ? cdb[13] : get(cdb, 10, 4)};
  }
}

Bytes make_cdb(std::uint8_t operation, std::uint8_t flags, const Range& range) {
  Bytes cdb(std::max<std::size_t>(testing::cdb_bytes(operation), 6));
  cdb[0] = operation;
  if (cdb.size() > 6) cdb[1] = flags;
  switch (cdb.size()) {
    case 6:
      put(cdb, 2, range.lba, 2);
      cdb[4] = static_cast<std::uint8_t>(range.blocks);
      break;
    case 10:
      put(cdb, 2, range.lba, 4);
      put(cdb, 7, range.blocks, 2);
      break;
    case 12:
      put(cdb, 2, range.lba, 4);
      put(cdb, 6, range.blocks, 4);
      break;
    default:
      put(cdb, 2, range.lba, 8);
      put(cdb, 10, range.blocks, 4);
      if (operation == 0x89) cdb[13] = static_cast<std::uint8_t>(range.blocks);
  }
  return cdb;
}

// A command's memory: pieces between guards.
class Memory {
 public:
  Memory(std::size_t length, std::size_t piece, std::size_t skew) : bytes_(kGuard, kGuardByte) {
    std::vector<std::size_t> starts;
    std::vector<std::size_t> lengths;
    for (std::size_t at = 0; at < length; at += piece) {
      const std::size_t take = std::min(piece, length - at);
      starts.push_back(bytes_.size() + skew);
      lengths.push_back(take);
      bytes_.resize(bytes_.size() + skew + take + kGuard, kGuardByte);
    }
    for (std::size_t i = 0; i < starts.size(); ++i) {
      pieces_.push_back({bytes_.data() + starts[i], lengths[i]});
    }
  }

  const std::vector<iovec>& pieces() const { return pieces_; }

  void fill(const Bytes& content) {
    auto from = content.begin();
    for (const iovec& piece : pieces_) {
      std::copy_n(from, piece.iov_len, static_cast<std::uint8_t*>(piece.iov_base));
      from += static_cast<std::ptrdiff_t>(piece.iov_len);
    }
  }
  Bytes content() const {
    Bytes all;
    for (const iovec& piece : pieces_) {
      const auto* const from = static_cast<const std::uint8_t*>(piece.iov_base);
      all.insert(all.end(), from, from + piece.iov_len);
    }
    return all;
  }
  void expect_guards() const {
    const std::uint8_t* at = bytes_.data();
    const auto untouched = [&at](const std::uint8_t* end) {
      return std::all_of(at, end, [](std::uint8_t byte) { return byte == kGuardByte; });
    };
    for (const iovec& piece : pieces_) {
      const auto* const start = static_cast<const std::uint8_t*>(piece.iov_base);
      promise(untouched(start), "nothing is written outside of a command's memory");
      at = start + piece.iov_len;
    }
    promise(untouched(bytes_.data() + bytes_.size()),
            "nothing is written outside of a command's memory");
  }

 private:
  Bytes bytes_;
  std::vector<iovec> pieces_;
};

const std::string& scratch() {
  static const ScratchFolder folder;
  return folder.path();
}

std::uint8_t origin_byte(std::uint64_t at) { return static_cast<std::uint8_t>(at / 512 * 7 + at); }

tcmur_handler& handler() {
  static tcmur_handler* const one = [] {
    ::setenv("TCMU_CLONE_STATE_DIR", (scratch() + "/state").c_str(), 1);
    ::setenv("TCMU_CLONE_RUN_DIR", (scratch() + "/run").c_str(), 1);
    ::setenv("TCMU_CLONE_CONF_DIR", (scratch() + "/conf").c_str(), 1);
    ::setenv("TCMU_CLONE_SYS_DIR", (scratch() + "/sys").c_str(), 1);
    std::string image(kDiskBytes, '\0');
    for (std::uint64_t i = 0; i < kDiskBytes; ++i) image[i] = static_cast<char>(origin_byte(i));
    std::ofstream(scratch() + "/origin", std::ios::binary) << image;
    return testing::start_handler(&handler_init);
  }();
  promise(one != nullptr, "the handler starts");
  return *one;
}

class Session {
 public:
  Session(std::uint32_t block_bytes, bool write_cache) : block_bytes_(block_bytes) {
    for (const char* left : {"/dest", "/meta", "/state"}) {
      std::filesystem::remove_all(scratch() + left);
    }
    for (std::uint64_t i = 0; i < kDiskBytes; ++i) disk_[i] = origin_byte(i);
    HostLun::Setup setup;
    setup.name = "vm1";
    setup.config = "clone/origin=" + scratch() + "/origin;dest=" + scratch() +
                   "/dest;meta=" + scratch() + "/meta;hydration=off" +
                   (write_cache ? "" : ";write_cache=off");
    setup.size_bytes = kDiskBytes;
    setup.block_bytes = block_bytes;
    setup.sys_dir = scratch() + "/sys";
    lun_.emplace(handler(), setup);
    open();
  }

  void command(FuzzInput& input) {
    const std::uint8_t operation = input.byte();
    Bytes cdb;
    if (operation >= kRaw) {
      const auto raw = input.bytes(16);
      cdb.assign(raw.begin(), raw.end());
      if (cdb.empty()) return;
      cdb.resize(testing::cdb_bytes(cdb[0]));
      if (cdb.empty()) return;  // libtcmu drops it.
    } else {
      const std::uint8_t flags = input.byte();
      const std::uint64_t address = input.number(2);
      Range range{address % (kDiskBytes / block_bytes_ + 2), input.byte()};
      if (address >= 0xff00) range.lba = ~std::uint64_t{0} - (address & 0xff);
      cdb = make_cdb(kOperations[operation % kOperations.size()], flags, range);
    }
    run(cdb, input);
  }

  void finish(bool reopen) {
    if (reopen) {
      lun_->close();
      open();
    }
    expect_disk(lun_->read(0, kDiskBytes).data, 0, "the disk reads as what was written");
    lun_.reset();
    struct stat file {};
    promise(::stat((scratch() + "/dest").c_str(), &file) == 0 &&
                static_cast<std::uint64_t>(file.st_size) == kDiskBytes,
            "nothing is written outside of the disk");
    testing::take_log();
  }

 private:
  void open() {
    const int opened = lun_->open();
    if (opened != 0) {
      for (const std::string& line : testing::take_log())
        std::fprintf(stderr, "%s\n", line.c_str());
    }
    promise(opened == 0, "the LUN opens");
  }

  static bool compares(const Bytes& cdb) { return (cdb[1] & 0x06) == 0x02; }

  // How much data the initiator sends or wants.
  std::uint64_t data_bytes(const Bytes& cdb) const {
    const Range range = range_of(cdb);
    switch (cdb[0]) {
      case 0x35:
      case 0x91:
      case 0x34:
      case 0x90:
      case 0x00:
        return 0;
      case 0x2f:
      case 0xaf:
      case 0x8f:
        return compares(cdb) ? std::min<std::uint64_t>(range.blocks * block_bytes_, 2 * kDiskBytes)
                             : 0;
      case 0x04:
        return (cdb[1] & 0x10) != 0 ? 8 : 0;
      case 0x83:
        return std::min<std::uint64_t>(range.blocks, 1024);
      case 0x12:
        return get(cdb, 3, 2);
      case 0x03:
      case 0x1a:
        return cdb[4];
      case 0x5a:
      case 0x37:
        return range.blocks;
      case 0xa3:
      case 0xb7:
        return std::min<std::uint64_t>(get(cdb, 6, 4), 65536);
      case 0x84:
      case 0x9e:
        return std::min<std::uint64_t>(range.blocks, 65536);
      case 0x42:
        return range.blocks;
      case 0x41:
        return block_bytes_;
      case 0x93:
        return (cdb[1] & 0x01) != 0 ? 0 : block_bytes_;
      case 0x89:
        return 2 * range.blocks * block_bytes_;
      default:
        return std::min<std::uint64_t>(range.blocks, kDiskBytes / block_bytes_ + 2) * block_bytes_;
    }
  }

  void run(const Bytes& cdb, FuzzInput& input) {
    static constexpr std::array<std::size_t, 16> kPieces{
        4096, 512, 1, 7, 1536, 65536, 8192, 4095, 4097, 12288, 20480, 513, 64, 100, 2048, 1024};
    const std::uint8_t layout = input.byte();
    std::uint64_t length = data_bytes(cdb);
    if ((layout & 0x20) != 0) ++length;
    if ((layout & 0x40) != 0 && length > 0) --length;
    std::size_t piece = kPieces[layout & 15];
    // The kernel has no command with more pieces.
    if (length / piece > 512) piece = 4096;
    Memory memory(length, piece, (layout & 0x10) != 0 ? 512 : 0);
    const Bytes out = data_out(cdb, length, input);
    memory.fill(out);
    const Reply reply = lun_->execute(cdb, memory.pieces());
    memory.expect_guards();
    judge(cdb, reply, out, memory.content());
  }

  Bytes data_out(const Bytes& cdb, std::uint64_t length, FuzzInput& input) {
    Bytes out(length, input.byte());
    for (std::uint64_t i = 0; i < length; i += 512)
      out[i] = static_cast<std::uint8_t>(out[i] + i / 512);
    if (cdb[0] == 0x89 && input.flag()) {  // What is there, so that it may succeed.
      const std::uint64_t at = range_of(cdb).lba * block_bytes_;
      for (std::uint64_t i = 0; i < length / 2 && at < kDiskBytes && at + i < kDiskBytes; ++i) {
        out[i] = disk_[at + i];
      }
    }
    if (compares_medium(cdb[0]) && input.flag()) {
      const std::uint64_t at = range_of(cdb).lba * block_bytes_;
      for (std::uint64_t i = 0; i < length && at < kDiskBytes && at + i < kDiskBytes; ++i) {
        out[i] = disk_[at + i];
      }
    }
    if (cdb[0] == 0x04 && input.flag()) std::fill(out.begin(), out.end(), std::uint8_t{0});
    if (cdb[0] == 0x83) copy_list(out, input);
    if (cdb[0] != 0x42) return out;
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    if (length >= 4) put(out, 2, input.byte(), 2);
    for (std::uint64_t at = 8; at + 16 <= length; at += 16) {
      put(out, at, input.number(2) % (kDiskBytes / block_bytes_ + 8), 8);
      put(out, at + 8, input.byte(), 4);
    }
    return out;
  }

  static bool compares_medium(std::uint8_t opcode) {
    return opcode == 0x2f || opcode == 0xaf || opcode == 0x8f;
  }

  // One target, and as many segments as there is room for; a flag spoils the list.
  static void copy_list(Bytes& out, FuzzInput& input) {
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    if (out.size() < 48) return;
    const std::size_t segments = std::min<std::size_t>((out.size() - 48) / 28, 20);
    put(out, 2, 32, 2);
    put(out, 8, 28 * segments, 4);
    out[16] = 0xe4;
    const auto designator = scsi::naa_designator(HostLun::Setup{}.unit_serial);
    std::copy(designator.begin(), designator.end(), out.begin() + 20);
    for (std::size_t i = 0; i < segments; ++i) {
      const std::size_t at = 48 + 28 * i;
      out[at] = 0x02;
      put(out, at + 10, input.byte(), 2);
      put(out, at + 12, input.number(2) % (kDiskBytes / 512), 8);
      put(out, at + 20, input.number(2) % (kDiskBytes / 512), 8);
    }
    if (input.flag()) out[input.number(2) % out.size()] = input.byte();
  }

  void judge(const Bytes& cdb, const Reply& reply, const Bytes& out, const Bytes& in) {
    check_status(cdb, reply, out);
    if (reply.status != TCMU_STS_OK) return;
    const Range range = range_of(cdb);
    const std::uint64_t at = range.lba * block_bytes_;
    switch (cdb[0]) {
      case 0x08:
      case 0x28:
      case 0xa8:
      case 0x88:
        expect_disk(in, at, "a READ gives what was written last");
        break;
      case 0x0a:
      case 0x2a:
      case 0xaa:
      case 0x8a:
      case 0x2e:
      case 0xae:
      case 0x8e:
        store(at, out);
        break;
      case 0x2f:
      case 0xaf:
      case 0x8f:
        if (compares(cdb)) expect_disk(out, at, "VERIFY succeeds only on what is there");
        break;
      case 0x8b: {
        Bytes bits = out;
        for (std::size_t i = 0; i < bits.size(); ++i) bits[i] |= disk_[at + i];
        store(at, bits);
        break;
      }
      case 0x41:
      case 0x93:
        write_same(range, out);
        break;
      case 0x42:
        unmap(cdb, out);
        break;
      case 0x04:
        std::fill(disk_.begin(), disk_.end(), std::uint8_t{0});
        break;
      case 0x83:
        copy(cdb, out);
        break;
      case 0x89:
        if (range.blocks == 0) break;
        for (std::uint64_t i = 0; i < out.size() / 2; ++i) {
          promise(disk_[at + i] == out[i], "COMPARE AND WRITE succeeds only on what it expects");
        }
        store(at, {out.begin() + static_cast<std::ptrdiff_t>(out.size() / 2), out.end()});
        break;
      default:
        break;
    }
  }

  void check_status(const Bytes& cdb, const Reply& reply, const Bytes& out) {
    switch (reply.status) {
      case TCMU_STS_OK:
        break;
      case TCMU_STS_NOT_HANDLED:
      case TCMU_STS_INVALID_CMD:
      case TCMU_STS_INVALID_CDB:
      case TCMU_STS_INVALID_PARAM_LIST:
      case TCMU_STS_INVALID_PARAM_LIST_LEN:
      case TCMU_STS_RANGE:
      case TCMU_STS_HW_ERR:  // The daemon's word for a length that does not fit.
        return;
      case TCMU_STS_PASSTHROUGH_ERR:
        promise(reply.sense[2] == 0x05 || (reply.sense[2] == 0x0a && cdb[0] == 0x83),
                "a sound LUN refuses only what is wrong with the command",
                std::to_string(reply.sense[2]));
        return;
      case TCMU_STS_MISCOMPARE:
        promise(reply.completions == 1, "a command completes once");
        check_miscompare(cdb, reply, out);
        return;
      default:
        promise(false, "a sound LUN gives no such status", std::to_string(reply.status));
    }
    promise(reply.completions <= 1, "a command completes once");
  }

  void check_miscompare(const Bytes& cdb, const Reply& reply, const Bytes& out) {
    const bool verifies = compares_medium(cdb[0]) && compares(cdb);
    promise(cdb[0] == 0x89 || verifies, "only what compares miscompares");
    const std::uint64_t at = range_of(cdb).lba * block_bytes_;
    const std::size_t compared = verifies ? out.size() : out.size() / 2;
    std::uint64_t same = 0;
    while (same < compared && disk_[at + same] == out[same]) ++same;
    promise(same < compared, "it fails only on what it does not expect");
    const Bytes sense(reply.sense.begin(), reply.sense.end());
    promise(sense[0] == 0x80 && get(sense, 3, 4) == same, "a miscompare says where it begins");
  }

  // A range that is refused refuses all of them.
  void unmap(const Bytes& cdb, const Bytes& list) {
    const std::uint64_t length = range_of(cdb).blocks;
    const std::uint64_t said = length < 8 ? 0 : get(list, 2, 2) / 16;
    promise(8 + 16 * said <= std::max<std::uint64_t>(length, 8), "ranges lie inside of the list");
    for (std::uint64_t i = 0; i < said; ++i) {
      const std::uint64_t lba = get(list, 8 + 16 * i, 8);
      store(lba * block_bytes_, Bytes(get(list, 16 + 16 * i, 4) * block_bytes_));
    }
  }

  void write_same(Range range, const Bytes& block) {
    const std::uint64_t blocks =
        range.blocks != 0 ? range.blocks : kDiskBytes / block_bytes_ - range.lba;
    const Bytes content = block.empty() ? Bytes(block_bytes_) : block;
    for (std::uint64_t i = 0; i < blocks; ++i) store((range.lba + i) * block_bytes_, content);
  }

  void copy(const Bytes& cdb, const Bytes& list) {
    if (get(cdb, 10, 4) == 0) return;
    const std::uint64_t targets = get(list, 2, 2);
    for (std::uint64_t at = 16 + targets; at < 16 + targets + get(list, 8, 4); at += 28) {
      const std::uint64_t from = get(list, at + 12, 8) * block_bytes_;
      const std::uint64_t length = get(list, at + 10, 2) * block_bytes_;
      promise(from <= kDiskBytes && length <= kDiskBytes - from, "nothing is copied from outside");
      const Bytes content(disk_.begin() + static_cast<std::ptrdiff_t>(from),
                          disk_.begin() + static_cast<std::ptrdiff_t>(from + length));
      store(get(list, at + 20, 8) * block_bytes_, content);
    }
  }

  void store(std::uint64_t at, const Bytes& bytes) {
    promise(at <= kDiskBytes && bytes.size() <= kDiskBytes - at,
            "nothing succeeds outside of the disk");
    std::copy(bytes.begin(), bytes.end(), disk_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  void expect_disk(const Bytes& bytes, std::uint64_t at, std::string_view what) {
    promise(at <= kDiskBytes && bytes.size() <= kDiskBytes - at,
            "nothing succeeds outside of the disk");
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] != disk_[at + i]) promise(false, what, "at " + std::to_string(at + i));
    }
  }

  const std::uint32_t block_bytes_;
  Bytes disk_ = Bytes(kDiskBytes);  // The model.
  std::optional<HostLun> lun_;
};

}  // namespace
}  // namespace clonedev::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace clonedev::fuzz;
  FuzzInput input(data, size);
  const std::uint8_t choice = input.byte();
  Session session((choice & 1) != 0 ? 4096 : 512, (choice & 4) == 0);
  for (std::size_t i = 0; i < kMostCommands && !input.empty(); ++i) session.command(input);
  session.finish((choice & 2) != 0);
  return 0;
}
