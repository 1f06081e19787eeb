// The live map: the states of all blocks, and the last COMPARE AND WRITEs, in a shared mapping of
// a file on tmpfs. It survives the death of the process, not of the machine (I13).
//
//   unit 0      header: magic, version, needs_check, clone, two attach ids, pages, blocks, COMPARE
//               AND WRITE memory
//   then, for each 4096 pages:
//     a unit    one byte for the kind of each of them
//     then      a slot of 4 KiB for each of them; only those of mixed pages take memory
//
// So a disk can grow and nothing has to move: the file is lengthened first, and when the larger
// size is durable, the states of the new blocks are set and published with the number of blocks.
//
// Between any two instructions the file is valid: a page is allocated and filled before one store
// publishes it as mixed, and published as uniform before its memory goes. Memory is allocated
// with fallocate() before it is touched, so a full tmpfs is an answer and never a SIGBUS.
//
// Slots of pages that became uniform stay allocated until reclaim(): another thread may be
// looking at a word of one at that moment. Reserved ones stay longer.
//
// Thread: one writer; kind() and words() of mixed pages may be read by any thread that does not
// meet lengthen(), which may move them.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "clonedev/error.h"
#include "core/state_pages.h"
#include "metadata/host_ids.h"

namespace clonedev {

class LiveMap final : public StatePages {
 public:
  static std::string path_of(const std::string& dir, const Id& uuid);

  // A new one, all `origin`; replaces a left-over file of that name.
  static Result<std::unique_ptr<LiveMap>> create(const std::string& dir, const Id& uuid,
                                                 const Id& attach_id, std::uint64_t blocks);
  // The one that an earlier process left; it must be of this clone, carry this attach id as one of
  // its two, and be sound. Blocks it does not speak of, because that process died while the disk
  // was grown, get the state `beyond`. Errc::unavailable when there is none, Errc::foreign,
  // Errc::damaged, Errc::live_map_full.
  static Result<std::unique_ptr<LiveMap>> adopt(const std::string& dir, const Id& uuid,
                                                const Id& attach_id, std::uint64_t blocks,
                                                BlockState beyond);
  // Whether adopt() would find one of that clone and attachment; looks at the header alone and
  // changes nothing.
  static bool is_left(const std::string& dir, const Id& uuid, const Id& attach_id);
  ~LiveMap() override;
  LiveMap(const LiveMap&) = delete;
  LiveMap& operator=(const LiveMap&) = delete;

  std::size_t pages() const override { return pages_; }
  PageKind kind(std::size_t page) const override;
  Words words(std::size_t page) override;
  bool allocate(std::size_t page, std::uint64_t fill) override;
  bool reserve(std::size_t page) override;
  void release(std::size_t page) override;
  void set_kind(std::size_t page, PageKind kind) override;
  // Gives the memory of pages that are not mixed any more back.
  void reclaim();

  // Blocks whose states are kept here.
  std::uint64_t blocks() const;
  // Makes the file long enough for the states of a larger disk; nothing else changes.
  // Errc::live_map_full.
  Result<> lengthen(std::uint64_t blocks);
  // The disk has so many blocks now; the new ones have `state`. The file is long enough, and the
  // last page that there was has room (reserve()).
  void grow(std::uint64_t blocks, BlockState state);

  // Adoption, step by step: the next id beside the one that the superblock has; the superblock
  // with the next id made durable; the next id alone.
  void propose_id(const Id& next);
  void confirm_id();

  // A COMPARE AND WRITE is about to land; gives the number it is remembered by.
  std::uint64_t remember_caw(std::uint64_t offset, std::uint64_t compare_hash,
                             std::uint64_t write_hash);
  // Its initiator has the answer: it will not come again.
  void forget_caw(std::uint64_t serial);
  // Which of the last 64 of an earlier process was this one, 0: none. Each counts once in a
  // process. Meant for a command that would fail now, while initiators repeat after a restart what
  // they were not answered.
  std::uint64_t caw_done_before(std::uint64_t offset, std::uint64_t compare_hash,
                                std::uint64_t write_hash);
  // Those of an earlier process that have not come again will not any more.
  void forget_earlier_caws();

  // Something failed that may not be in the superblock: it survives the process here.
  void set_needs_check(bool on);
  bool needs_check() const;

  // Removes the file; the mapping lives on until the destructor.
  void remove();

 private:
  struct Header;
  struct Caw {
    std::uint64_t offset;
    std::uint64_t compare_hash;
    std::uint64_t write_hash;
    std::uint64_t serial;  // 0: empty, or being written.
  };
  static constexpr std::size_t kCaws = 64;

  LiveMap(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  // For that many pages: the file is long enough, its kinds have memory, all of it is mapped.
  Result<> stretch(std::size_t pages);
  Result<> fill_header(const Id& uuid, const Id& attach_id, std::uint64_t blocks);
  Result<> check_header(const Id& uuid, const Id& attach_id, std::uint64_t blocks);
  Result<> catch_up(std::uint64_t blocks, BlockState beyond);
  void grow_page(std::size_t page, std::size_t first, BlockState state);
  Result<> check_pages();
  void read_caws();
  Header& header() const;
  std::uint8_t& kind_byte(std::size_t page) const;
  bool give_memory(std::size_t page);

  std::string path_;
  int fd_;
  std::size_t pages_ = 0;
  std::byte* memory_ = nullptr;
  std::set<std::size_t> idle_;                // Not mixed, but with memory.
  std::map<std::size_t, unsigned> reserved_;  // How often.
  std::uint64_t next_caw_ = 1;
  std::vector<Caw> earlier_caws_;
};

}  // namespace clonedev
