// Metadata to text and back: docs/metadata-format.md, "The dump".
//
// Thread: one scheduler. Memory: a few MiB, however large the disk.
#pragma once

#include <functional>
#include <string_view>

#include "io/block_device.h"
#include "metadata/dump_text.h"

namespace clonedev {

// Takes the next piece of the text.
using TextSink = std::function<Result<>(std::string_view text)>;

// `superblock` is the one that counts. Errors: Errc::damaged at the first damage (check first, so
// that no half text goes out), and the sink's.
Task<Result<>> dump_metadata(BlockDevice& device, const Superblock& superblock,
                             const TextSink& sink);

// Gives the next run of states; nothing: the end.
using RunSource = std::function<Result<std::optional<StateRun>>()>;

// Writes metadata with the states that `runs` gives, from the first block to the last without a
// gap; what the device held is gone. `superblock` is valid but for its references; the device has
// room for its units. A crash leaves what was there, or the new metadata, or what is refused or
// found to be damaged; never blank, and never another map that looks sound. So do errors of `runs`:
// judge what it reads before.
Task<Result<>> restore_metadata(BlockDevice& device, Superblock superblock, const RunSource& runs);

}  // namespace clonedev
