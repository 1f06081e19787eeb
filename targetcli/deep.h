// Comparing a clone with its origin while nobody uses it: check --deep.
//
// Thread: one. Errors: CommandError.
#pragma once

#include <string>

#include "clonedev/verification.h"
#include "metadata/superblock.h"
#include "metadata_file.h"

namespace clonectl {

// What is `copied` has to be equal. Of a complete clone everything is compared, and a difference
// may be what a user wrote. `superblock` is the one that counts, below it all is sound; origin and
// destination are those that it names.
clonedev::Verification compare_with_origin(MetadataFile& meta,
                                           const clonedev::Superblock& superblock,
                                           const std::string& origin, const std::string& dest);

}  // namespace clonectl
