#include "support/clone_rig.h"

#include <stdlib.h>

#include <algorithm>
#include <cassert>
#include <random>
#include <stdexcept>

#include "io/iovecs.h"

namespace clonedev {
namespace {

constexpr std::uint32_t kJitterSeed = 1;  // A failing seed replays exactly.

template <class T>
T must(Result<T> result, const char* what) {
  if (!result) throw std::runtime_error(std::string(what) + ": " + result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

std::span<const iovec> one(const iovec& entry) { return {&entry, 1}; }

iovec entry(const Bytes& data) { return {const_cast<std::byte*>(data.data()), data.size()}; }

}  // namespace

Bytes pattern(std::uint64_t number, std::size_t length) {
  std::mt19937_64 random(number * 2 + 1);
  Bytes bytes(length);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() | 1);  // Never a zero byte.
  return bytes;
}

CloneRig::CloneRig(const RigConfig& config) : sim(config.seed), config_(config) {
  origin = std::make_shared<MemoryOrigin::World>(sim);
  origin->content = pattern(1'000'000, config.origin_size ? config.origin_size : config.size);
  const std::uint64_t room = std::max(config.size, config.room);
  destination_disk = std::make_unique<VolatileDevice>(room, config.sector_size);
  metadata_disk =
      std::make_unique<VolatileDevice>(units_for(room) * kUnitBytes, config.sector_size);
  host_ = {random_id(), random_id()};
  stack_devices();
  make_live_dir();
  Superblock fresh;
  fresh.uuid = random_id();
  fresh.name = "rig";
  fresh.size_bytes = config.size;
  fresh.region_size = config.options.region_size;
  fresh.origin_size = origin->content.size();
  fresh.origin_identity = origin->identity;
  fresh.destination_identity = "none";
  must(sim.run(format(*metadata_device, fresh)), "format");
  must(open(), "open");
}

CloneRig::CloneRig(const CloneRig& from, MemoryDevice destination_image,
                   MemoryDevice metadata_image)
    : sim(from.config_.seed), config_(from.config_), host_(from.host_) {
  config_.options.hydration = false;  // What is found shall be what was left.
  config_.live_dir.clear();
  origin = std::make_shared<MemoryOrigin::World>(sim);
  origin->content = from.origin->content;
  origin->identity = from.origin->identity;
  origin->extents = from.origin->extents;
  origin->bad_blocks = from.origin->bad_blocks;
  destination_disk = std::make_unique<VolatileDevice>(std::move(destination_image));
  metadata_disk = std::make_unique<VolatileDevice>(std::move(metadata_image));
  stack_devices();
  make_live_dir();
}

CloneRig::~CloneRig() {
  if (engine_) {
    origin->hang = false;
    origin->released.wake_all();
    destination_slow->release();
    metadata_slow->release();
    (void)close();
  }
  if (own_live_dir_) std::filesystem::remove_all(live_dir_);
}

void CloneRig::stack_devices() {
  destination_slow = std::make_unique<SlowDevice>(*destination_disk, sim, SlowDevice::Delays{});
  metadata_slow = std::make_unique<SlowDevice>(*metadata_disk, sim, SlowDevice::Delays{});
  destination = std::make_unique<FaultyDevice>(*destination_slow);
  metadata_device = std::make_unique<FaultyDevice>(*metadata_slow);
}

void CloneRig::make_live_dir() {
  if (!config_.live_dir.empty()) {
    live_dir_ = config_.live_dir;
    return;
  }
  own_live_dir_ = true;
  std::string name = "/dev/shm/clone-rig-XXXXXX";
  live_dir_ = must<std::string>(
      ::mkdtemp(name.data()) ? Result<std::string>(name) : fail(Errc::unavailable, "mkdtemp"),
      "live dir");
}

Result<> CloneRig::open() {
  auto found = sim.run(read_superblock(*metadata_device));
  if (!found) return fail(found.error());
  if (!found->has_value()) return fail(Errc::damaged, "blank metadata");
  const Superblock superblock = **found;
  auto store =
      sim.run(MetadataStore::attach(*metadata_device, superblock, live_dir_.string(), host_));
  if (!store) return fail(store.error());
  metadata_ = std::move(*store);
  pool_ = std::make_unique<BufferPool>(config_.memory);
  if (!superblock.complete) {
    OriginLink::Pace pace;
    pace.jitter_seed = kJitterSeed;
    link_ = std::make_unique<OriginLink>(
        "rig", MemoryOrigin::factory(origin),
        OriginLink::Binding{superblock.origin_size, superblock.origin_identity}, pace);
    link_->start();
  }
  engine_ = std::make_unique<Engine>(
      Engine::Parts{sim, *pool_, *destination, *metadata_, link_.get()}, config_.options);
  engine_->start();
  return {};
}

Result<> CloneRig::close() {
  auto stopped = sim.run(engine_->stop());
  sim.settle();
  engine_.reset();
  link_.reset();
  metadata_.reset();
  pool_.reset();
  return stopped;
}

Result<Bytes> CloneRig::read(Extent extent) {
  Bytes bytes(extent.length);
  const iovec into = entry(bytes);
  auto got = sim.run(engine_->read(extent, one(into)));
  if (!got) return fail(got.error());
  return bytes;
}

Result<> CloneRig::write(std::uint64_t offset, const Bytes& data, bool fua) {
  const iovec from = entry(data);
  return sim.run(engine_->write({offset, data.size()}, one(from), fua));
}

Result<> CloneRig::zero(Extent extent, Zeroing how) {
  return sim.run(engine_->zero(extent, how, false));
}

Result<> CloneRig::flush() { return sim.run(engine_->flush()); }

Result<> CloneRig::compare_and_write(std::uint64_t offset, const Bytes& expected,
                                     const Bytes& data) {
  Bytes both = expected;
  both.insert(both.end(), data.begin(), data.end());
  const iovec from = entry(both);
  return sim.run(engine_->compare_and_write({offset, data.size()}, one(from), false));
}

Task<Result<>> CloneRig::begin_write(std::uint64_t offset, const Bytes& data) {
  const iovec from = entry(data);
  const std::span<const iovec> list(&from, 1);
  auto written = co_await engine_->write({offset, data.size()}, list, false);
  co_return written;
}

Task<Result<>> CloneRig::begin_read(Extent extent, Bytes& into) {
  into.resize(extent.length);
  const iovec target = entry(into);
  const std::span<const iovec> list(&target, 1);
  auto got = co_await engine_->read(extent, list);
  co_return got;
}

std::unique_ptr<CloneRig> CloneRig::power_cut(std::uint64_t seed, bool lose_units) const {
  return power_cut(destination_disk->image({seed, false}),
                   metadata_disk->image({seed + 1, lose_units}));
}

std::unique_ptr<CloneRig> CloneRig::power_cut(MemoryDevice destination_image,
                                              MemoryDevice metadata_image) const {
  std::unique_ptr<CloneRig> next(
      new CloneRig(*this, std::move(destination_image), std::move(metadata_image)));
  next->host_.boot = random_id();
  return next;
}

std::unique_ptr<CloneRig> CloneRig::kill() const {
  std::unique_ptr<CloneRig> next(
      new CloneRig(*this, destination_disk->present(), metadata_disk->present()));
  for (const auto& file : std::filesystem::directory_iterator(live_dir_)) {
    if (file.path().extension() != ".live") continue;
    std::filesystem::copy(file.path(), next->live_dir_ / file.path().filename());
  }
  return next;
}

void CloneRig::set_hydration(bool on) {
  config_.options.hydration = on;
  engine_->apply_live(config_.options);
}

void CloneRig::hydrate_to_the_end() {
  set_hydration(true);
  sim.run_until([this] { return engine_->complete(); });
}

Bytes CloneRig::origin_bytes(Extent extent) const {
  Bytes bytes(extent.length);
  const Extent there = intersect(extent, {0, origin->content.size()});
  std::copy_n(origin->content.begin() + static_cast<std::ptrdiff_t>(there.offset), there.length,
              bytes.begin());
  return bytes;
}

}  // namespace clonedev
