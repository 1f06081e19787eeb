// What a destination and metadata were before a LUN was created over them, to put them back when
// the creation fails later on. (A LUN that does not even open changes nothing.)
//
// A clone that was there already is never touched. Thread: one. Errors: CommandError.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "clonedev/options.h"
#include "engine/known_clones.h"
#include "metadata/superblock.h"

namespace clonectl {

class FilesBefore {
 public:
  FilesBefore(const std::string& name, const clonedev::Options& options,
              const std::string& state_dir);

  // With the LUN gone: removes what was not there, cuts back what has grown, blanks metadata that
  // were blank, forgets the clone. Nothing unless the daemon's record says that the LUN was made of
  // these two. One sentence for each thing that is not as it was.
  std::string put_back() const;

 private:
  bool made_of_these() const;
  std::string put_back_destination() const;
  std::string put_back_metadata() const;

  std::string name_;
  clonedev::KnownClones known_;
  std::string dest_;
  std::string meta_;
  std::string record_;
  bool there_ = false;                      // The clone: known here, or its metadata are not blank.
  bool overwritten_ = false;                // What the destination held is gone, as was asked for.
  std::optional<std::uint64_t> dest_size_;  // Nothing: there was no destination.
  std::optional<std::uint64_t> meta_size_;
};

}  // namespace clonectl
