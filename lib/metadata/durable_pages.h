// Which pages differ from what is durable, and what is durable of them.
//
// A page that is not listed here is durable as it is. keep() lists a page before its first
// change. A commit freezes copies of the listed pages; when they are durable, settle() makes them
// the durable content, and a page that has not changed since is clean again.
//
//   clean --keep()--> dirty --freeze()--> dirty, frozen --settle()--> clean or dirty
//
// A page is urgent while it has states that a user's write depends on and that are not durable
// (I3); states that only copying made are not, nor is `copied` that became `destination`, which
// has the same authority. Asked block by block when the mark is set, forgotten
// page by page: a mark may outlive its cause by one commit, never the other way round.
//
// Pure. Thread: one.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "metadata/page_content.h"

namespace clonedev {

class DurablePages {
 public:
  // `live` is what set() calls change; it outlives this.
  DurablePages(Geometry geometry, StatePages& live) : geometry_(geometry), live_(live) {}

  // The live page is about to change, or has just not changed after all.
  void keep(std::size_t page);
  void drop_if_same(std::size_t page);
  // After a crash: `content` is durable of this page; if the live one is ahead it is a user's.
  void adopt(std::size_t page, PageContent content);

  // The blocks now have `state`, `destination` or `zero`, because of a user.
  void mark_written(BlockRange blocks, BlockState state);
  bool must_commit() const { return urgent_ > 0; }
  bool dirty() const { return !pages_.empty(); }

  // What is durable of a page.
  PageContent durable(std::size_t page) const;
  // The disk is larger now, durably and live; the new blocks have `state`. Not during a commit.
  void grow(Geometry larger, BlockState state);

  // Copies of all that is not durable, ascending; only one freeze at a time.
  std::vector<FrozenPage> freeze();
  // These are durable now.
  void settle(std::span<FrozenPage> durable);
  // The commit failed: what was frozen is as dirty as before.
  void thaw();

 private:
  struct Kept {
    PageContent durable;
    bool frozen = false;
    bool written = false;         // Since the last freeze.
    bool written_before = false;  // And now frozen.
    bool urgent() const { return written || written_before; }
  };
  using Map = std::map<std::size_t, Kept>;

  bool unchanged(Map::iterator it) const;
  Map::iterator erase(Map::iterator it);

  Geometry geometry_;
  StatePages& live_;
  Map pages_;
  std::size_t urgent_ = 0;
};

}  // namespace clonedev
