// A copy of metadata as they are, byte for byte, before they are changed.
//
// Thread: one. Errors: CommandError.
#pragma once

#include <string>

#include "metadata_file.h"

namespace clonectl {

// To `path`, which must not exist; empty: beside the metadata file, as META.before-repair. What is
// all zeroes becomes a hole. Durable when it returns the path.
std::string make_backup(MetadataFile& meta, std::string path);

}  // namespace clonectl
