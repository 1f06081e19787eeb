#include "io/spare_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <utility>

namespace clonedev {
namespace {

constexpr std::size_t kPage = 4096;

}  // namespace

std::shared_ptr<SparePages> SparePages::create(std::size_t most) {
  return std::shared_ptr<SparePages>(new SparePages(most));
}

SparePages::SparePages(std::size_t most) : most_(most) { pieces_.reserve(most / kPage + 1); }

SparePages::~SparePages() { shrink(0); }

void SparePages::close() {
  {
    const std::lock_guard lock(mutex_);
    most_ = 0;
  }
  shrink(0);
}

SparePages::Pages SparePages::take(std::size_t length) {
  // Powers of two, so that what is spare fits; what nobody touches is no memory.
  Piece piece = find(std::bit_ceil(std::max(length, kPage)));
  if (piece.memory == nullptr) {
    void* memory =
        ::mmap(nullptr, piece.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    piece.memory = static_cast<std::byte*>(memory);
  }
  return {piece.memory, [self = shared_from_this(), piece](std::byte*) { self->give(piece); }};
}

SparePages::Piece SparePages::find(std::size_t length) {
  const std::lock_guard lock(mutex_);
  const auto fits = [length](const Piece& piece) { return piece.length == length; };
  const auto latest = std::find_if(pieces_.rbegin(), pieces_.rend(), fits);
  if (latest == pieces_.rend()) return {nullptr, length};
  const Piece found = *latest;
  pieces_.erase(std::next(latest).base());
  spare_ -= length;
  return found;
}

void SparePages::give(Piece piece) {
  std::size_t most = 0;
  {
    const std::lock_guard lock(mutex_);
    most = most_;
    if (piece.length <= most && pieces_.size() < pieces_.capacity()) {
      pieces_.push_back(std::exchange(piece, {}));
      spare_ += pieces_.back().length;
    }
  }
  if (piece.memory) ::munmap(piece.memory, piece.length);
  shrink(most);
}

// Others need not wait while the kernel frees pages.
void SparePages::shrink(std::size_t most) {
  for (Piece piece = take_oldest(most); piece.memory; piece = take_oldest(most)) {
    ::munmap(piece.memory, piece.length);
  }
}

SparePages::Piece SparePages::take_oldest(std::size_t most) {
  const std::lock_guard lock(mutex_);
  if (spare_ <= most) return {};
  const Piece oldest = pieces_.front();
  pieces_.erase(pieces_.begin());
  spare_ -= oldest.length;
  return oldest;
}

std::size_t SparePages::spare() const {
  const std::lock_guard lock(mutex_);
  return spare_;
}

}  // namespace clonedev
