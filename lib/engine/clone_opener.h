// Opens a clone: decides whether it is there already or has to be made, refuses whatever could
// lose data, and touches nothing before it is sure.
//
// Destination and metadata are made together or not at all. Once a clone is known to this machine
// (known_clones.h) it is never started afresh, whatever the config string says.
//
// Thread: the one that runs the reactor; blocks for locks (up to 20 s) and, for a clone that is
// new, for the origin's first answer.
#pragma once

#include <memory>

#include "clonedev/clone_device.h"
#include "engine/known_clones.h"
#include "io/file_device.h"
#include "metadata/disk_format.h"
#include "metadata/metadata_store.h"
#include "origin/origin_link.h"

namespace clonedev {

struct OpenedClone {
  std::unique_ptr<FileDevice> destination;
  std::unique_ptr<FileDevice> metadata_device;
  std::unique_ptr<OriginLink> origin;  // Null for a clone that is complete.
  std::unique_ptr<MetadataStore> metadata;
  KnownClone record;  // As it is remembered; the sequence is that of now when it is closed.
};

class CloneOpener {
 public:
  CloneOpener(OpenRequest request, Reactor& reactor, BufferPool& bounce);

  Task<Result<OpenedClone>> open();

 private:
  // What the metadata path holds.
  enum class Found { nothing, blank, ours, another, invalid };

  Result<> check_request();
  Result<> check_known(const std::optional<KnownClone>& known) const;
  Result<> check_metadata_known(const KnownClone& known) const;
  Result<> check_distinct() const;
  Result<> look_at_host();
  Result<> open_files();
  Task<Result<Found>> look_at_metadata();
  Result<> decide_existing(Found found) const;
  Result<> decide_new(Found found) const;
  Task<Result<OpenedClone>> open_existing();
  void keep_size();
  Result<> check_existing() const;
  Task<Result<OpenedClone>> create();
  Task<Result<>> create_files();
  Result<> prepare_destination();
  Task<Result<>> create_metadata();
  Task<Result<>> open_new_metadata(std::uint64_t size);
  Task<Result<>> attach();
  Result<> open_destination();
  Result<> make_link(std::optional<OriginLink::Binding> expected);
  Superblock new_superblock() const;
  Task<> undo_creation();
  Task<> put_metadata_back();
  std::string sentence(const std::string& what) const;

  OpenRequest request_;
  Reactor& reactor_;
  BufferPool& bounce_;
  KnownClones known_clones_;
  std::string live_dir_;
  HostIds host_;
  bool known_ = false;
  std::uint64_t grown_from_ = 0;
  ExclusiveFile destination_file_;
  // For undo_creation().
  bool created_destination_ = false;
  bool created_metadata_ = false;
  std::optional<std::uint64_t> destination_size_before_;
  std::uint64_t metadata_size_before_ = 0;
  SuperblockHead metadata_before_;
  Superblock superblock_;
  std::string why_invalid_;
  OpenedClone opened_;
};

}  // namespace clonedev
