// The states of all blocks, in core and durable, and the commit that makes the one the other.
//
//   set()     changes the live map (survives the process) and lists the page as not durable
//   commit()  1 freezes copies of the listed pages            what is set from now on waits
//             2 starts the destination's flush, and meanwhile writes the pages and the nodes above
//               them to free units and flushes the metadata device
//             3 when both have ended well, writes the other superblock slot and flushes it
//
// So a state is durable only after a destination flush that began after its data was written (I1),
// at the price of two flush latencies (I2). When the frozen pages need more units than are free, 2
// and 3 repeat for parts of them; every part is complete in itself.
//
// A failure is final: the in-core states and the live map stay, every further commit is refused
// until clear_needs_check() (I10).
//
// Thread: one scheduler. The tasks must not overlap: commit, grow, set_needs_check,
// clear_needs_check, set_complete and detach are serialised by the caller. Everything else may be
// called meanwhile. Ownership: the metadata device outlives the store.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/state_map.h"
#include "io/block_device.h"
#include "metadata/durable_pages.h"
#include "metadata/host_ids.h"
#include "metadata/live_map.h"
#include "metadata/page_table.h"
#include "metadata/superblock.h"

namespace clonedev {

// Why a state changed. A copy can be made again, what a user wrote cannot.
enum class Cause { copied, written };

// The answer when make_room() had none.
Error live_map_full();

class MetadataStore {
 public:
  // Reads and checks everything, makes or adopts the live map in `live_dir`, and writes durably
  // who has the clone attached now (I13). `superblock` is what read_superblock() gave; changed
  // identities in it become durable, too. The caller holds the lock of the device.
  // Errors: damaged, foreign, refused (in use elsewhere, or live map missing), live_map_full,
  // metadata_io, unavailable.
  static Task<Result<std::unique_ptr<MetadataStore>>> attach(BlockDevice& device,
                                                             Superblock superblock,
                                                             std::string live_dir, HostIds ids);
  MetadataStore(const MetadataStore&) = delete;
  MetadataStore& operator=(const MetadataStore&) = delete;

  const StateMap& map() const { return map_; }
  const Superblock& superblock() const { return superblock_; }

  // Whoever writes data takes room for their states first (StateMap::make_room()).
  [[nodiscard]] std::optional<StateRoom> make_room(BlockRange blocks) {
    return map_.make_room(blocks);
  }
  // To be called when the data is where the state says.
  void set(const StateRoom& room, BlockRange blocks, BlockState state, Cause cause);
  // For states that need no data. False: the live map is full; nothing changed.
  [[nodiscard]] bool set(BlockRange blocks, BlockState state, Cause cause);
  // The bytes of these blocks on the destination are about to change: what is `copied` becomes
  // `destination`. Called before they do, so that no mark outlives what it says. Nothing is lost
  // when that does not become durable: marks do not survive a power loss (attach.cc). Cannot fail:
  // where the live map has no room to tell the blocks of a page apart, all of it is unmarked.
  void forget_copied(BlockRange blocks);
  // A user's write has landed on blocks that are `destination` already. Where that is not durable
  // yet, the next FLUSH has to make it so (lazy copy bits, I3).
  void note_written(BlockRange blocks) { durable_.mark_written(blocks, BlockState::destination); }

  // Some state that a user's write depends on is not durable.
  bool must_commit() const { return durable_.must_commit(); }
  // Some state is not durable.
  bool dirty() const { return durable_.dirty(); }
  // Everything set before the call is durable when it ends well, and so is every write to the
  // destination that had ended. With nothing dirty it is just the destination's flush.
  Task<Result<>> commit(BlockDevice& destination);

  // Growing the disk (growth.cc). First memory for the states of the larger one, to be kept until
  // grow() has ended. Errc::live_map_full, Errc::no_space: the device has not the units for it.
  Result<StateRoom> make_room_to_grow(std::uint64_t size_bytes);
  // A commit, and then the larger size with state_of_new_blocks() in one superblock step. The last
  // block there was, when it was a short one, is not the origin's, and its bytes past the old end
  // are zeroes on the destination. An error is that of a commit; after any crash the size is the
  // old or the new one.
  Task<Result<>> grow(BlockDevice& destination, std::uint64_t size_bytes);

  // Also stops commits when it cannot be written; the next process learns of it either way, if the
  // machine stays up.
  Task<Result<>> set_needs_check(std::string reason);
  Task<Result<>> clear_needs_check();
  // Commits are refused.
  bool failed() const { return failure_.has_value(); }

  // Errc::refused unless every block is `destination`, none `copied`, and all is durable.
  Task<Result<>> set_complete();
  // After the last commit: marks the metadata clean, in both slots, and removes the live map.
  // Errc::refused when something is not durable, Errc::needs_check after a failure; then all stays
  // for the next attach. Afterwards only the destructor may be called.
  Task<Result<>> detach();

  std::uint64_t used_units() const { return kSuperblockSlots + table_.used_units(); }
  std::uint64_t total_units() const { return superblock_.units; }
  // Superblock steps that commit() has made durable since attach.
  std::uint64_t commits() const { return commits_; }

  // LiveMap's memory of COMPARE AND WRITEs.
  std::uint64_t remember_caw(std::uint64_t offset, std::uint64_t compare_hash,
                             std::uint64_t write_hash) {
    return live_->remember_caw(offset, compare_hash, write_hash);
  }
  void forget_caw(std::uint64_t serial) { live_->forget_caw(serial); }
  std::uint64_t caw_done_before(std::uint64_t offset, std::uint64_t compare_hash,
                                std::uint64_t write_hash) {
    return live_->caw_done_before(offset, compare_hash, write_hash);
  }
  void forget_earlier_caws() { live_->forget_earlier_caws(); }

 private:
  struct Parts;  // What attach() has put together.

  MetadataStore(BlockDevice& device, Superblock superblock, Parts parts);

  void forget_copied_pages(BlockRange run);
  Task<Result<>> write_pages(const PageTable::Step& step);
  Task<Result<>> publish(const PageTable::Step& step, std::span<FrozenPage> frozen);
  Task<Result<>> put_superblock(Superblock next);
  tl::unexpected<Error> give_up(const Error& error);
  tl::unexpected<Error> refuse() const;

  BlockDevice& device_;
  Superblock superblock_;  // The durable one.
  std::unique_ptr<LiveMap> live_;
  DurablePages durable_;
  PageTable table_;
  StateMap map_;
  std::optional<Error> failure_;
  std::uint64_t commits_ = 0;
};

struct MetadataStore::Parts {
  std::unique_ptr<LiveMap> live;
  DurablePages durable;
  PageTable table;
};

}  // namespace clonedev
