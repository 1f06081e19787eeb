#include "support/memory_origin.h"

#include <algorithm>

namespace clonedev {

OriginFactory MemoryOrigin::factory(std::shared_ptr<World> world) {
  return [world = std::move(world)] { return std::make_unique<MemoryOrigin>(world); };
}

Task<Result<>> MemoryOrigin::open() {
  ++world_->opens;
  if (world_->delay.count()) co_await world_->scheduler.sleep_for(world_->delay);
  if (!world_->reachable) co_return fail(Errc::unavailable, "memory origin: not reachable");
  state_ = State::connected;
  epoch_ = world_->epoch;
  ++world_->open_connections;
  co_return Result<>{};
}

Task<Result<std::string>> MemoryOrigin::identity() { co_return world_->identity; }

Task<Result<OriginBytes>> MemoryOrigin::read(std::uint64_t offset, std::span<std::byte> room) {
  ++world_->reads;
  ++world_->reads_under_way;
  const Scheduler::Duration delay = world_->pace ? world_->pace() : world_->delay;
  if (delay.count()) co_await world_->scheduler.sleep_for(delay);
  while (world_->hang && state_ == State::connected) co_await world_->released.wait();
  --world_->reads_under_way;
  if (state_ != State::connected || !world_->reachable || epoch_ != world_->epoch) {
    state_ = state_ == State::closed ? state_ : State::down;
    co_return fail(Errc::unavailable, "memory origin: the connection is gone");
  }
  for (std::uint64_t block = offset / 4096; block * 4096 < offset + room.size(); ++block) {
    if (world_->bad_blocks.contains(block)) co_return fail(Errc::origin_read, "bad sector");
  }
  for (std::uint64_t sector = offset / 512; sector * 512 < offset + room.size(); ++sector) {
    if (world_->bad_sectors.contains(sector)) co_return fail(Errc::origin_read, "bad sector");
  }
  const auto first = world_->content.begin() + static_cast<std::ptrdiff_t>(offset);
  if (world_->own_memory) {
    const auto own = std::make_shared<std::vector<std::byte>>(
        first, first + static_cast<std::ptrdiff_t>(room.size()));
    co_return OriginBytes{*own, own};
  }
  std::copy_n(first, room.size(), room.begin());
  co_return OriginBytes{room};
}

Task<Result<std::vector<OriginExtent>>> MemoryOrigin::extents(Extent range) {
  std::vector<OriginExtent> found;
  for (const OriginExtent& part : world_->extents) {
    const Extent cut = intersect(part.extent, range);
    if (!cut.empty()) found.push_back({cut, part.zero});
  }
  if (found.empty()) found.push_back({range, false});
  co_return found;
}

Task<> MemoryOrigin::close() {
  if (state_ == State::connected || state_ == State::down) --world_->open_connections;
  state_ = State::closed;
  world_->released.wake_all();
  co_return;
}

}  // namespace clonedev
