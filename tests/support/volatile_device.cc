#include "support/volatile_device.h"

#include <algorithm>
#include <cstring>

#include "io/iovecs.h"

namespace clonedev {

void VolatileDevice::set_flush_time(Scheduler& scheduler, Scheduler::Duration duration) {
  scheduler_ = &scheduler;
  flush_time_ = duration;
}

Task<Result<>> VolatileDevice::read(std::uint64_t offset, std::span<const iovec> data) {
  if (auto outcome = co_await durable_.read(offset, data); !outcome) co_return outcome;
  const std::size_t length = iov_length(data);
  auto it = pending_.lower_bound(offset / kSector);
  for (; it != pending_.end() && it->first * kSector < offset + length; ++it) {
    const auto part = iov_slice(data, it->first * kSector - offset, kSector);
    iov_copy_in(it->second.back().data, part);
  }
  co_return Result<>{};
}

Task<Result<>> VolatileDevice::write(std::uint64_t offset, std::span<const iovec> data) {
  const std::size_t length = iov_length(data);
  if (offset % sector_size() != 0 || length % sector_size() != 0 || offset + length > size()) {
    co_return co_await durable_.write(offset, data);  // Which refuses it.
  }
  const std::uint64_t time = ++time_;
  for (std::size_t done = 0; done < length; done += kSector) {
    Version version{time, {}};
    const auto part = iov_slice(data, done, kSector);
    iov_copy_out(part, version.data);
    pending_[(offset + done) / kSector].push_back(version);
  }
  co_return Result<>{};
}

Task<Result<>> VolatileDevice::zero(Extent extent, bool deallocate) {
  if (extent.offset % sector_size() != 0 || extent.length % sector_size() != 0 ||
      extent.end() > size()) {
    co_return co_await durable_.zero(extent, deallocate);  // Which refuses it.
  }
  const std::uint64_t time = ++time_;
  for (std::uint64_t at = extent.offset; at < extent.end(); at += kSector) {
    pending_[at / kSector].push_back(Version{time, {}});
  }
  co_return Result<>{};
}

Task<Result<>> VolatileDevice::flush() {
  const std::uint64_t began = time_;
  if (scheduler_) co_await scheduler_->sleep_for(flush_time_);
  for (auto it = pending_.begin(); it != pending_.end();) {
    std::vector<Version>& versions = it->second;
    const auto later = std::find_if(versions.begin(), versions.end(),
                                    [began](const Version& v) { return v.time > began; });
    if (later != versions.begin()) durable_.poke(it->first * kSector, std::prev(later)->data);
    versions.erase(versions.begin(), later);
    it = versions.empty() ? pending_.erase(it) : std::next(it);
  }
  ++flushes_;
  co_return Result<>{};
}

void VolatileDevice::choose(MemoryDevice& disk, std::uint64_t sector,
                            const std::vector<Version>& versions, double keep,
                            std::mt19937_64& random) {
  if (std::uniform_real_distribution<>(0, 1)(random) >= keep) return;
  const std::size_t which = keep >= 1 ? versions.size() - 1 : random() % versions.size();
  disk.poke(sector * kSector, versions[which].data);
}

void VolatileDevice::lose_units(MemoryDevice& disk, std::mt19937_64& random) const {
  constexpr std::uint64_t kUnit = 4096;
  for (auto it = pending_.begin(); it != pending_.end();) {
    const std::uint64_t unit = it->first * kSector / kUnit;
    if (random() % 2 == 0) {
      std::array<std::uint64_t, kUnit / sizeof(std::uint64_t)> garbage;
      std::generate(garbage.begin(), garbage.end(), std::ref(random));
      const std::uint64_t length = std::min(kUnit, size() - unit * kUnit);
      disk.poke(unit * kUnit, std::as_bytes(std::span(garbage)).first(length));
    }
    it = pending_.lower_bound((unit + 1) * kUnit / kSector);
  }
}

std::vector<VolatileDevice::Unflushed> VolatileDevice::unflushed() const {
  std::vector<Unflushed> all;
  for (const auto& [sector, versions] : pending_) {
    std::array<std::byte, kSector> durable;
    durable_.peek(sector * kSector, durable);
    Unflushed one{sector, {}};
    for (const Version& version : versions) {
      const bool known = version.data == durable ||
                         std::ranges::any_of(one.contents, [&](const Unflushed::Content& content) {
                           return std::ranges::equal(content.data, version.data);
                         });
      if (!known) one.contents.push_back({version.time, version.data});
    }
    all.push_back(std::move(one));
  }
  return all;
}

MemoryDevice VolatileDevice::present() const {
  MemoryDevice disk = durable_;
  for (const auto& [sector, versions] : pending_) disk.poke(sector * kSector, versions.back().data);
  return disk;
}

MemoryDevice VolatileDevice::image(Crash crash) const {
  std::mt19937_64 random(crash.seed);
  static constexpr double kKeep[] = {0, 1, 0.1, 0.5, 0.9};
  const double keep = kKeep[random() % std::size(kKeep)];
  MemoryDevice disk = durable_;
  for (const auto& [sector, versions] : pending_) choose(disk, sector, versions, keep, random);
  if (crash.lose_units) lose_units(disk, random);
  return disk;
}

void VolatileDevice::crash(Crash crash) {
  durable_ = image(crash);
  pending_.clear();
}

}  // namespace clonedev
