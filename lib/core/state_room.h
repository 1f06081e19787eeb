// Memory for the states of a range of blocks, kept from the moment it was taken until the room is
// destroyed. Whoever writes data takes it first, so that no data ever lie on the destination whose
// state cannot be set (StateMap::make_room()).
//
// Thread: that of the pages, which outlive it.
#pragma once

#include <array>
#include <optional>
#include <utility>

#include "core/state_pages.h"

namespace clonedev {

class StateRoom {
 public:
  explicit StateRoom(StatePages& pages) : pages_(&pages) {}
  StateRoom(StateRoom&& other) noexcept
      : pages_(other.pages_), reserved_(std::exchange(other.reserved_, {})) {}
  StateRoom& operator=(StateRoom&& other) noexcept {
    std::swap(pages_, other.pages_);
    std::swap(reserved_, other.reserved_);
    return *this;
  }
  ~StateRoom() {
    for (const auto& page : reserved_) {
      if (page) pages_->release(*page);
    }
  }

  // At most two pages. False: there is no room for it.
  [[nodiscard]] bool add(std::size_t page) {
    if (!pages_->reserve(page)) return false;
    reserved_[reserved_[0].has_value()] = page;
    return true;
  }

 private:
  StatePages* pages_;
  std::array<std::optional<std::size_t>, 2> reserved_;
};

}  // namespace clonedev
