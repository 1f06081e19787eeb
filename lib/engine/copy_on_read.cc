#include "engine/copy_on_read.h"

namespace clonedev {

void CopyOnRead::offer(const Fetcher::Shared& fetched) {
  if (!enabled_ || ended_ || fetched->kept || !parts_.hydrator.takes_copies()) return;
  if (!keeps_up(fetched->extent.length)) return;
  fetched->kept = true;
  spawn(keep(fetched));
}

// A quarter of the pool is all that may wait for the destination here.
bool CopyOnRead::keeps_up(std::uint64_t bytes) const {
  return !parts_.pool.is_short() && landing_ + bytes <= parts_.pool.capacity() / 4;
}

Task<> CopyOnRead::keep(Fetcher::Shared fetched) {
  const Gate::Holder holder = copies_.enter();
  const Geometry& geometry = parts_.map.geometry();
  const BlockRange blocks = geometry.covered(fetched->extent);
  if (blocks.empty()) co_return;
  const std::span<const std::byte> data = fetched->bytes(geometry.bytes(blocks));
  landing_ += data.size();
  Copier::Kept kept;
  const auto outcome = co_await parts_.copier.keep(blocks, data, kept);
  parts_.hydrator.note(outcome, kept);
  landing_ -= data.size();
}

Task<> CopyOnRead::idle() {
  while (!copies_.idle()) co_await copies_.wait_for_change();
}

}  // namespace clonedev
