#include "origin/scsi_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

namespace clonedev {
namespace {

constexpr std::size_t kLongestName = 64;  // Of a designator: an identity has 255 bytes.

std::uint64_t number(ScsiBytes bytes, std::size_t at, std::size_t length) {
  std::uint64_t value = 0;
  for (std::size_t i = at; i < at + length; ++i) {
    value = value << 8 | (i < bytes.size() ? std::to_integer<std::uint64_t>(bytes[i]) : 0);
  }
  return value;
}

void put(ScsiCommand& command, std::size_t at, std::size_t length, std::uint64_t value) {
  for (std::size_t i = length; i-- > 0; value >>= 8) {
    command.block[at + i] = static_cast<unsigned char>(value);
  }
}

ScsiCommand inquiry(bool vital, std::uint8_t page, std::size_t room) {
  ScsiCommand command{{0x12, static_cast<unsigned char>(vital), page}, 6};
  put(command, 3, 2, room);
  return command;
}

ScsiCommand service_action(unsigned char action, std::uint64_t first, std::size_t room) {
  ScsiCommand command{{0x9e, action}, 16};
  put(command, 2, 8, first);
  put(command, 10, 4, room);
  return command;
}

// How much of a page is there, as it says and as was received.
ScsiBytes page_content(ScsiBytes page, std::uint8_t code) {
  if (number(page, 1, 1) != code || page.size() < 4) return {};
  return page.subspan(4, std::min<std::size_t>(number(page, 2, 2), page.size() - 4));
}

std::string hex(ScsiBytes bytes) {
  std::string text;
  for (const std::byte byte : bytes.first(std::min(bytes.size(), kLongestName / 2))) {
    text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return text;
}

std::string printable(ScsiBytes bytes) {
  std::string text;
  for (const std::byte byte : bytes.first(std::min(bytes.size(), kLongestName))) {
    const char c = static_cast<char>(byte);
    if (c == '\0') break;
    text += c > ' ' && c < 0x7f && c != ';' ? c : '_';
  }
  while (text.ends_with('_')) text.pop_back();
  return text;
}

// Types 3, 2 and 1 of SPC-5, table 546; the first of the best kind.
void weigh(unsigned type, ScsiBytes value, ScsiDisk& disk) {
  const std::string& known = disk.designator;
  if (type == 3 && value.size() >= 8 && !known.starts_with("naa=")) {
    disk.designator = "naa=" + hex(value);
  } else if (type == 2 && value.size() >= 8 && (known.empty() || known.starts_with("t10="))) {
    disk.designator = "eui=" + hex(value);
  } else if (type == 1 && known.empty() && !printable(value).empty()) {
    disk.designator = "t10=" + printable(value);
  }
}

}  // namespace

ScsiCommand test_unit_ready() { return {{}, 6}; }
ScsiCommand inquiry(std::size_t room) { return inquiry(false, 0, room); }
ScsiCommand inquiry_page(std::uint8_t page, std::size_t room) { return inquiry(true, page, room); }
ScsiCommand read_capacity(std::size_t room) { return service_action(0x10, 0, room); }

ScsiCommand get_lba_status(std::uint64_t first, std::size_t room) {
  return service_action(0x12, first, room);
}

ScsiCommand read_sectors(std::uint64_t first, std::uint32_t sectors) {
  ScsiCommand command{{0x88}, 16};  // READ(16)
  put(command, 2, 8, first);
  put(command, 10, 4, sectors);
  return command;
}

Result<> check_inquiry(ScsiBytes answer) {
  const auto first = static_cast<unsigned>(number(answer, 0, 1));
  const unsigned qualifier = first >> 5;
  const unsigned type = first & 0x1f;
  if (qualifier != 0 || type == 0x1f) {
    return fail(Errc::refused, "the target has no such LUN: correct the number at its end");
  }
  if (type != 0) {
    return fail(
        Errc::refused,
        fmt::format("is no disk but a device of SCSI type {}: give the LUN of a disk", type));
  }
  return {};
}

Result<> take_capacity(ScsiBytes answer, ScsiDisk& disk) {
  const std::uint64_t last = number(answer, 0, 8);
  const std::uint64_t sector = number(answer, 8, 4);
  if (last == std::numeric_limits<std::uint64_t>::max()) {
    return fail(Errc::refused, "is empty: there is nothing to clone");
  }
  if (!std::has_single_bit(sector) || sector < 512 || sector > 65536 ||
      last >= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / sector) {
    return fail(Errc::refused, fmt::format("its size makes no sense: sectors of {} bytes, the last "
                                           "one has the number {}",
                                           sector, last));
  }
  disk.sector = static_cast<std::uint32_t>(sector);
  disk.size = (last + 1) * sector;
  const std::uint64_t provisioning = number(answer, 14, 1);
  disk.unmapped_is_zero = (provisioning & 0xc0) == 0xc0;  // LBPME, LBPRZ
  return {};
}

void take_block_limits(ScsiBytes page, ScsiDisk& disk) {
  const ScsiBytes content = page_content(page, kBlockLimits);
  disk.most_sectors = static_cast<std::uint32_t>(number(content, 4, 4));
}

void take_designator(ScsiBytes page, ScsiDisk& disk) {
  ScsiBytes rest = page_content(page, kDeviceIdentification);
  while (rest.size() > 4) {
    const std::size_t length = std::min<std::size_t>(number(rest, 3, 1), rest.size() - 4);
    const auto kind = static_cast<unsigned>(number(rest, 1, 1));
    if ((kind >> 4 & 3) == 0) weigh(kind & 0xf, rest.subspan(4, length), disk);  // Of the LUN.
    rest = rest.subspan(4 + length);
  }
}

std::vector<OriginExtent> take_lba_status(ScsiBytes answer, const ScsiDisk& disk, Extent range) {
  constexpr std::size_t kDescriptor = 16;
  const std::size_t told = std::min<std::size_t>(number(answer, 0, 4) + 4, answer.size());
  std::vector<OriginExtent> parts;
  std::uint64_t at = range.offset;
  for (std::size_t i = 8; i + kDescriptor <= told && at < range.end(); i += kDescriptor) {
    const std::uint64_t first = number(answer, i, 8);
    const std::uint64_t sectors = number(answer, i + 8, 4);
    if (first >= disk.size / disk.sector) break;
    const Extent piece = intersect({first * disk.sector, sectors * disk.sector}, range);
    if (piece.empty() || piece.offset != at) break;  // A gap, or something twice.
    parts.push_back({piece, (number(answer, i + 12, 1) & 0xf) == 1});
    at = piece.end();
  }
  return parts;
}

}  // namespace clonedev
