// The INQUIRY pages of the LUN: standard data, and vital product data 00, 80, 83, B0, B1, B2.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "scsi/disk.h"

namespace clonedev::scsi {

// Does this page show, or leave out, the target port groups?
bool inquiry_tells_of_ports(const std::uint8_t* cdb);
bool inquiry_needs_serial(const std::uint8_t* cdb);

// Empty: there is no such page, an invalid field in the command block. Page 83 has the T10 vendor
// and NAA designators of the runner and the kernel byte for byte, so that a LUN keeps its identity
// for initiators that have seen it under another handler.
std::vector<std::uint8_t> inquiry_page(const std::uint8_t* cdb, const Disk& disk,
                                       std::string_view unit_serial);

// The designator by which EXTENDED COPY names a LUN.
using NaaDesignator = std::array<std::uint8_t, 20>;
NaaDesignator naa_designator(std::string_view unit_serial);

}  // namespace clonedev::scsi
