#include "crash/crash_judge.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "crash/crash_images.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kSector = VolatileDevice::kSector;
constexpr std::uint64_t kSmallDisk = 1 << 20;  // Hydrated to the end in no time.
constexpr SlowDevice::Delay kSlow{milliseconds(1), milliseconds(1)};

std::string text_of(const std::vector<BlockState>& states) {
  std::string text;
  for (const BlockState state : states) text += fmt::format(" {}", name_of(state));
  return text;
}

}  // namespace

CrashJudge::CrashJudge(Sampling sampling, Counts& counts) : sampling_(sampling), counts_(counts) {
  std::string name = "/dev/shm/crash-judge-XXXXXX";
  if (!::mkdtemp(name.data())) throw std::runtime_error("mkdtemp");
  live_dir_ = name;
}

CrashJudge::~CrashJudge() { std::filesystem::remove_all(live_dir_); }

void CrashJudge::complain(const std::string& text) {
  if (complaint_.empty()) complaint_ = text;
}

void CrashJudge::look_at(Extent window) {
  window_ = window;
  opened_.clear();
}

// ---- power cuts ----

std::string CrashJudge::power_cut(const CloneRig& rig, const ShadowDisk& shadow) {
  complaint_.clear();
  ++counts_.points;
  const CrashImages images(*rig.metadata_disk, true);
  std::set<States> maps;
  counts_.images += images.each(counts_.points, [&](const MemoryDevice& image) {
    maps.insert(states_in(image, rig, shadow));
  });
  const Contents destination = destination_contents(*rig.destination_disk);
  double contents = 1;
  for (const auto& sector : destination) contents *= static_cast<double>(sector.size());
  counts_.states += images.count() * contents;
  for (const States& states : maps) {
    if (!states.empty()) compare(states, destination, shadow, rig);
  }
  return complaint_;
}

// Empty: it could not be opened.
const CrashJudge::States& CrashJudge::states_in(const MemoryDevice& image, const CloneRig& rig,
                                                const ShadowDisk& shadow) {
  const auto [place, fresh] = opened_.try_emplace(image.fingerprint());
  if (!fresh) return place->second;
  ++counts_.opened;
  MemoryDevice disk = image;
  SimScheduler sim;
  const auto states = open(disk, rig, sim);
  if (!states) {
    complain("cannot be opened after a power cut: " + states.error().message());
    return place->second;
  }
  place->second = *states;
  if (counts_.opened % sampling_.recovery == 0) recover(image, rig, *states);
  if (counts_.opened % sampling_.engine == 0) try_engine(image, rig, shadow);
  return place->second;
}

Result<CrashJudge::States> CrashJudge::open(BlockDevice& image, const CloneRig& rig,
                                            SimScheduler& sim) {
  auto superblock = sim.run(read_superblock(image));
  if (!superblock) return fail(superblock.error());
  if (!*superblock) return fail(Errc::damaged, "the metadata are blank");
  if ((*superblock)->needs_check) return fail(Errc::damaged, "needs_check, but nothing failed");
  const HostIds next_boot{random_id(), rig.host().machine};
  std::string dir = live_dir_.string();
  auto store =
      sim.run(MetadataStore::attach(image, std::move(**superblock), std::move(dir), next_boot));
  if (!store) return fail(store.error());
  const StateMap& map = (*store)->map();
  States states;
  const BlockRange blocks = map.geometry().touched(window_);
  for (std::uint64_t block = blocks.first; block < blocks.end(); ++block) {
    states.push_back(map.at(block));
  }
  return states;
}

// The power goes again, at every step of the opening.
void CrashJudge::recover(const MemoryDevice& image, const CloneRig& rig, const States& expected) {
  VolatileDevice disk(image);
  SimScheduler sim;
  disk.set_flush_time(sim, milliseconds(1));
  SlowDevice slow(disk, sim, {kSlow, kSlow, kSlow, kSlow});
  std::uint64_t seen = disk.changes();
  sim.set_observer([&] {
    if (disk.changes() == seen) return;
    seen = disk.changes();
    const CrashImages images(disk, true);
    counts_.recoveries += images.each(counts_.opened, [&](const MemoryDevice& second) {
      MemoryDevice again = second;
      SimScheduler inner;
      const auto states = open(again, rig, inner);
      if (!states) {
        complain("cannot be opened after a second power cut: " + states.error().message());
      } else if (!std::ranges::equal(*states, expected, {}, authority_of, authority_of)) {
        complain("after a second power cut the states are" + text_of(*states) + ", they were" +
                 text_of(expected));
      }
    });
  });
  if (const auto states = open(slow, rig, sim); !states) complain(states.error().message());
}

void CrashJudge::try_engine(const MemoryDevice& image, const CloneRig& rig,
                            const ShadowDisk& shadow) {
  ++counts_.engines;
  const auto next = rig.power_cut(rig.destination_disk->image({counts_.engines, false}), image);
  const auto found = found_by(*next);
  if (!found) return complain("after a power cut: " + found.error().message());
  compare(ShadowDisk::Death::power_cut, *found, shadow);
  if (next->destination_disk->size() > kSmallDisk) return;
  next->hydrate_to_the_end();
  if (!next->flush()) return complain("after hydration: the flush fails");
  if (next->destination_disk->durable().bytes(window_) != *found) {
    complain("hydrated after a power cut the image is not what was read before");
  }
}

Result<Bytes> CrashJudge::found_by(CloneRig& rig) const {
  if (const auto opened = rig.open(); !opened) return fail(opened.error());
  const Geometry& geometry = rig.metadata().map().geometry();
  const BlockRange blocks = geometry.touched(window_);
  for (std::uint64_t block = blocks.first; block < blocks.end(); ++block) {
    const Extent bytes = geometry.bytes({block, 1});
    if (rig.state(block) == BlockState::copied &&
        rig.destination_disk->present().bytes(bytes) != rig.origin_bytes(bytes)) {
      return fail(Errc::damaged, fmt::format("block {} is `copied`, but differs", block));
    }
  }
  return rig.read(window_);
}

CrashJudge::Contents CrashJudge::destination_contents(const VolatileDevice& disk) const {
  Contents contents(window_.length / kSector);
  for (std::size_t i = 0; i < contents.size(); ++i) {
    contents[i].push_back(disk.durable().bytes({window_.offset + i * kSector, kSector}));
  }
  for (const VolatileDevice::Unflushed& sector : disk.unflushed()) {
    const std::uint64_t i = sector.sector - window_.offset / kSector;
    if (i >= contents.size()) continue;
    for (const auto& content : sector.contents) {
      contents[i].emplace_back(content.data.begin(), content.data.end());
    }
  }
  return contents;
}

void CrashJudge::compare(const States& states, const Contents& destination,
                         const ShadowDisk& shadow, const CloneRig& rig) {
  const Bytes zeroes(kSector);
  const Bytes origin = rig.origin_bytes(window_);
  for (std::size_t i = 0; i < destination.size(); ++i) {
    const BlockState state = states[i * kSector / kBlockSize];
    const auto judge = [&](const std::byte* content) {
      const bool differs = std::memcmp(content, &origin[i * kSector], kSector) != 0;
      if (state == BlockState::copied && differs) {
        complain(shadow.complaint("`copied` after a power cut, but differs", i, content));
      }
      if (shadow.may_find(ShadowDisk::Death::power_cut, i, content)) return;
      complain(shadow.complaint("after a power cut, states" + text_of(states), i, content));
    };
    if (state == BlockState::origin) {
      judge(&origin[i * kSector]);
    } else if (state == BlockState::zero) {
      judge(zeroes.data());
    } else {
      for (const Bytes& content : destination[i]) judge(content.data());
    }
  }
}

void CrashJudge::compare(ShadowDisk::Death how, const Bytes& found, const ShadowDisk& shadow) {
  for (std::size_t i = 0; i * kSector < found.size(); ++i) {
    if (shadow.may_find(how, i, &found[i * kSector])) continue;
    const char* when = how == ShadowDisk::Death::kill ? "after a kill" : "after a power cut";
    complain(shadow.complaint(when, i, &found[i * kSector]));
  }
}

// ---- the death of the daemon ----

std::string CrashJudge::kill(const CloneRig& rig, const ShadowDisk& shadow) {
  complaint_.clear();
  ++counts_.kills;
  const auto next = rig.kill();
  const auto found = found_by(*next);
  if (!found) return "cannot be opened after a kill: " + found.error().message();
  compare(ShadowDisk::Death::kill, *found, shadow);
  return complaint_;
}

}  // namespace clonedev
