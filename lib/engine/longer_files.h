// Destination and metadata, made long enough for a larger disk before anything counts on it: as at
// the creation of a clone, a file gets its length, that of the metadata its space too; a block
// device has to be long enough.
//
// Thread: any but the reactor, which must be free to end what these system calls wait for. The
// devices outlive it.
#pragma once

#include "io/file_device.h"

namespace clonedev {

class LongerFiles {
 public:
  // On an error everything is as it was. Errc::no_space, Errc::refused: a block device is short.
  static Result<LongerFiles> make(FileDevice& destination, FileDevice& metadata,
                                  std::uint64_t size_bytes);
  // Gives back what was added. Only while nothing durable can speak of the larger disk.
  void undo();

 private:
  LongerFiles(FileDevice& destination, FileDevice& metadata);

  FileDevice& destination_;
  FileDevice& metadata_;
  std::uint64_t destination_before_;  // Bytes of the files.
  std::uint64_t metadata_before_;
};

}  // namespace clonedev
