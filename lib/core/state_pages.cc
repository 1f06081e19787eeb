#include "core/state_pages.h"

namespace clonedev {

bool HeapStatePages::allocate(std::size_t page, std::uint64_t fill) {
  words_[page] = std::make_unique<Page>();
  words_[page]->fill(fill);
  return true;
}

void HeapStatePages::set_kind(std::size_t page, PageKind kind) {
  kinds_[page] = kind;
  if (kind != PageKind::mixed) words_[page].reset();
}

}  // namespace clonedev
