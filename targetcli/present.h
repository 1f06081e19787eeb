// What an origin or a destination is at this moment, to hold it against what metadata remember.
//
// Thread: one. Errors: CommandError.
#pragma once

#include <cstdint>
#include <string>

#include "metadata/superblock.h"
#include "metadata_file.h"
#include "origin/origin_factory.h"

namespace clonectl {

struct Present {
  std::string name;  // As the user wrote it, without secrets.
  std::uint64_t size_bytes = 0;
  std::string identity;
};

Present present_destination(const std::string& path);
// Connects to it and reads what its identity is made of.
Present present_origin(const std::string& spec, clonedev::Reactor& reactor,
                       const clonedev::OriginSettings& settings = {});

// What is wrong with taking it for the one that the clone was made with; empty: nothing.
std::string destination_mismatch(const clonedev::Superblock& superblock, const Present& present);
std::string origin_mismatch(const clonedev::Superblock& superblock, const Present& present);

}  // namespace clonectl
