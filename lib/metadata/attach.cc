// MetadataStore::attach(): who may use the metadata, and which of durable and live map counts.
//
//   clean                               the durable map; a new live map
//   not clean, this machine, this boot  the daemon died: the live map, which must be there
//   not clean, this machine, other boot power loss: the durable map; a new live map
//   not clean, another machine          refused
//
// A write takes the mark `copied` away in the live map, and in the durable one some time later: so
// after a power loss no mark is believed.
//
// The live map carries the id before the superblock does, so that at every instant one of its two
// ids is the one in the superblock.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "metadata/metadata_store.h"

namespace clonedev {
namespace {

enum class Start { clean, power_loss, adopt };

Result<Start> decide(const Superblock& superblock, const HostIds& ids) {
  if (superblock.clean) return Start::clean;
  if (superblock.machine_id == ids.machine) {
    return superblock.boot_id == ids.boot ? Start::adopt : Start::power_loss;
  }
  return fail(Errc::refused,
              fmt::format("{}: it is attached, or was not detached cleanly, by another machine "
                          "(machine id {}): detach it there, or, when that machine is certainly "
                          "off, clonectl repair META --take-over",
                          superblock.name, id_text(superblock.machine_id)));
}

Result<std::unique_ptr<LiveMap>> adopt(const Superblock& superblock, const std::string& dir,
                                       std::uint64_t blocks) {
  auto live = LiveMap::adopt(dir, superblock.uuid, superblock.attach_id, blocks,
                             superblock.state_of_new_blocks());
  if (live || live.error().code == make_error_code(Errc::live_map_full)) return live;
  return fail(Errc::refused,
              fmt::format("{}: it was in use in this boot and was not detached cleanly, and its "
                          "live map is missing or not usable ({}): acknowledged writes may be "
                          "missing from the metadata: bring that file back, or see what clonectl "
                          "repair META says",
                          superblock.name, live.error().message()));
}

// Makes the live map say what the durable one says.
Result<> fill(LiveMap& live, std::size_t page, const PageWords& words) {
  if (!live.allocate(page, 0)) {
    return fail(Errc::live_map_full,
                "the tmpfs of the live maps is full: make it larger, or detach another clone");
  }
  std::copy(words.begin(), words.end(), live.words(page).begin());
  live.set_kind(page, PageKind::mixed);
  return {};
}

// A process that died in the middle of a change leaves pages mixed that are not.
void collapse(LiveMap& live, const Geometry& geometry) {
  const std::size_t pages = pages_for(geometry.size_bytes());
  for (std::size_t page = 0; page < pages; ++page) {
    if (live.kind(page) != PageKind::mixed) continue;
    const PageContent content = copy_of(live, page, blocks_in_page(geometry, page));
    if (content.kind != PageKind::mixed) live.set_kind(page, content.kind);
  }
}

// `copied` becomes `destination` where it is; to be committed some time.
void forget_marks(LiveMap& live, std::size_t pages, DurablePages& durable) {
  for (std::size_t page = 0; page < pages; ++page) {
    if (live.kind(page) == PageKind::copied) {
      durable.keep(page);
      live.set_kind(page, PageKind::destination);
    }
    if (live.kind(page) != PageKind::mixed) continue;
    const auto words = live.words(page);
    const auto marked = [](std::uint64_t word) { return word != authorities_of(word); };
    if (std::ranges::none_of(words, marked)) continue;
    durable.keep(page);
    std::ranges::transform(words, words.begin(), authorities_of);
  }
}

// The uniform pages, of which load() does not tell.
void take_uniform(const PageTable& table, std::size_t pages, Start start, LiveMap& live,
                  DurablePages& durable) {
  for (std::size_t page = 0; page < pages; ++page) {
    const PageKind kind = table.kind(page);
    if (kind == PageKind::mixed) continue;
    if (start == Start::adopt) {
      durable.adopt(page, PageContent{kind, nullptr});
    } else if (kind != PageKind::origin) {
      live.set_kind(page, kind);
    }
  }
}

Result<> check_complete(const Superblock& superblock, const PageTable& table, std::size_t pages) {
  if (!superblock.complete) return {};
  for (std::size_t page = 0; page < pages; ++page) {
    if (table.kind(page) == PageKind::destination) continue;
    return fail(Errc::damaged,
                fmt::format("{}: marked complete, but some blocks still need the origin: the "
                            "metadata are damaged: restore them from a dump or a backup",
                            superblock.name));
  }
  return {};
}

}  // namespace

Task<Result<std::unique_ptr<MetadataStore>>> MetadataStore::attach(BlockDevice& device,
                                                                   Superblock superblock,
                                                                   std::string live_dir,
                                                                   HostIds ids) {
  const Geometry geometry(superblock.size_bytes, superblock.region_size);
  const std::size_t pages = pages_for(superblock.size_bytes);
  const auto start = decide(superblock, ids);
  if (!start) co_return fail(start.error());
  // A dead daemon may have written the superblock that was just read without having flushed it.
  // The next write goes over the one before it: this one must be safe by then.
  if (auto outcome = co_await flush_units(device); !outcome) co_return fail(outcome.error());

  const Id next = random_id();
  auto live = *start == Start::adopt
                  ? adopt(superblock, live_dir, geometry.blocks())
                  : LiveMap::create(live_dir, superblock.uuid, next, geometry.blocks());
  if (!live) co_return fail(live.error());
  LiveMap& map = **live;
  if (*start == Start::adopt) collapse(map, geometry);

  DurablePages durable(geometry, map);
  const PageTable::PageSink sink = [&](std::size_t page, const PageWords& words) -> Result<> {
    if (*start != Start::adopt) return fill(map, page, words);
    durable.adopt(page, PageContent{PageKind::mixed, std::make_unique<PageWords>(words)});
    return {};
  };
  auto table = co_await PageTable::load(device, superblock, sink);
  Result<> sound;
  if (table) {
    sound = check_complete(superblock, *table, pages);
  } else {
    sound = fail(table.error());
  }
  if (!sound) {
    if (*start != Start::adopt) map.remove();
    co_return fail(sound.error());
  }
  take_uniform(*table, pages, *start, map, durable);
  if (*start == Start::power_loss) {
    forget_marks(map, pages, durable);
    collapse(map, geometry);
  }

  if (map.needs_check() && !superblock.needs_check) {
    superblock.needs_check = true;
    superblock.reason = "an earlier failure that could not be written to the metadata";
  }
  Parts parts{std::move(*live), std::move(durable), std::move(*table)};
  std::unique_ptr<MetadataStore> store(
      new MetadataStore(device, std::move(superblock), std::move(parts)));
  Superblock attached = store->superblock_;
  attached.clean = false;
  attached.attach_id = next;
  attached.boot_id = ids.boot;
  attached.machine_id = ids.machine;
  map.propose_id(next);
  // When this fails, the live map stays: the superblock may have become durable nevertheless.
  auto outcome = co_await store->put_superblock(std::move(attached));
  if (!outcome) co_return fail(outcome.error());
  map.confirm_id();
  co_return store;
}

}  // namespace clonedev
