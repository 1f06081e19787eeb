#include "engine/clone_opener.h"

#include <unistd.h>

#include <filesystem>

#include "core/config_value.h"
#include "core/log.h"
#include "engine/live_dir.h"
#include "engine/private_folder.h"
#include "io/file_place.h"
#include "origin/origin_factory.h"
#include "sharing/shared_origin.h"

namespace clonedev {
namespace {

using std::chrono::milliseconds;

// Longer than the kernel ever kept the lock of a killed daemon's I/O (I12).
constexpr auto kLockPatience = milliseconds(20'000);
// An origin that is away must not hold the daemon up; one that answers is checked at once.
constexpr auto kLookAtOrigin = milliseconds(1'000);
constexpr auto kFirstConnect = milliseconds(2'000);
constexpr const char* kInitHint = "; init=overwrite makes a new clone there";

bool exists(const std::string& path) { return !place_of(path).empty(); }

}  // namespace

CloneOpener::CloneOpener(OpenRequest request, Reactor& reactor, BufferPool& bounce)
    : request_(std::move(request)),
      reactor_(reactor),
      bounce_(bounce),
      known_clones_(request_.site.state_dir) {
  if (request_.options.meta.empty()) {
    request_.options.meta = request_.site.state_dir + "/" + request_.name + ".meta";
  }
}

std::string CloneOpener::sentence(const std::string& what) const {
  return "clone " + request_.name + ": " + what;
}

Task<Result<OpenedClone>> CloneOpener::open() {
  if (auto checked = check_request(); !checked) co_return fail(checked.error());
  const auto known = known_clones_.find(request_.name);
  if (!known) co_return fail(known.error());
  known_ = known->has_value();
  if (known_) grown_from_ = (*known)->grown_from;
  if (auto checked = check_known(*known); !checked) co_return fail(checked.error());
  if (auto checked = check_distinct(); !checked) co_return fail(checked.error());
  if (auto ready = look_at_host(); !ready) co_return fail(ready.error());
  if (auto opened = open_files(); !opened) co_return fail(opened.error());
  const auto found = co_await look_at_metadata();
  if (!found) co_return fail(found.error());

  const bool existing = known_ || *found == Found::ours;
  const Result<> decided = existing ? decide_existing(*found) : decide_new(*found);
  if (!decided) co_return fail(decided.error());
  if (known_) {
    if (auto checked = check_metadata_known(**known); !checked) co_return fail(checked.error());
  }
  auto outcome = existing ? open_existing() : create();
  auto opened = co_await std::move(outcome);
  // What still runs on the reactor ends before anything is taken away from it.
  if (!opened && opened_.origin) co_await opened_.origin->close();
  co_return opened;
}

Result<> CloneOpener::check_request() {
  const std::uint64_t size = request_.size_bytes;
  if (size == 0 || size % kSectorSize != 0) {
    return fail(Errc::bad_config, sentence("size " + std::to_string(size) +
                                           ": must be a positive multiple of 512 bytes"));
  }
  if (request_.name.empty() || request_.name.size() > Superblock::kMaxName) {
    return fail(Errc::bad_config, sentence("the name must have 1 to " +
                                           std::to_string(Superblock::kMaxName) + " bytes"));
  }
  return {};
}

Result<> CloneOpener::check_known(const std::optional<KnownClone>& known) const {
  if (!known) return {};
  const std::string forget = "clonectl delete " + request_.name + " to forget the clone";
  if (known->dest != request_.options.dest || known->meta != request_.options.meta) {
    return fail(Errc::refused,
                sentence("is known with destination " + known->dest + " and metadata " +
                         known->meta + ": use these, or " + forget));
  }
  for (const auto& [role, path] :
       {std::pair{"metadata", known->meta}, {"destination", known->dest}}) {
    if (exists(path)) continue;
    return fail(Errc::refused, sentence("is known, but its " + std::string(role) + " " + path +
                                        " is missing: is its file system mounted? Or " + forget));
  }
  return {};
}

// An old copy of the metadata would take what was written since for the origin's.
Result<> CloneOpener::check_metadata_known(const KnownClone& known) const {
  const std::string meta = "metadata " + request_.options.meta;
  if (id_text(superblock_.uuid) != known.uuid) {
    return fail(Errc::foreign,
                sentence(meta + " is of another clone than the one known by this name"));
  }
  if (superblock_.sequence >= known.sequence) return {};
  return fail(Errc::refused,
              sentence(meta + " is older (sequence " + std::to_string(superblock_.sequence) +
                       ") than what this machine used last (" + std::to_string(known.sequence) +
                       "), as a restored backup is: blocks written since would read as the "
                       "origin's: bring the newest back, or, if destination and metadata were "
                       "restored together, remove " +
                       known_clones_.path(request_.name)));
}

// Origin, destination and metadata are three different things; so are alternates.
Result<> CloneOpener::check_distinct() const {
  const Options& options = request_.options;
  const std::string dest = place_of(options.dest);
  const std::string meta = place_of(options.meta);
  const auto same = [](const std::string& a, const std::string& b) { return !a.empty() && a == b; };
  const auto refuse = [this](const std::string& pair) {
    return fail(Errc::refused,
                sentence(pair + " are one and the same: give three different files or devices"));
  };
  if (same(dest, meta) || options.dest == options.meta) return refuse("destination and metadata");
  std::vector<std::pair<std::string, std::string>> sources = {{"origin", options.origin}};
  for (const std::string& spec : options.alternates) sources.emplace_back("alternate", spec);
  for (const auto& [role, spec] : sources) {
    const std::string place = place_of(std::string(config::local_path(spec)));
    if (same(place, dest)) return refuse(role + " and destination");
    if (same(place, meta)) return refuse(role + " and metadata");
  }
  return {};
}

// What any clone needs of this machine, before anything of one is touched.
Result<> CloneOpener::look_at_host() {
  const auto dir = live_dir(request_.site);
  if (!dir) return fail(dir.error());
  live_dir_ = *dir;
  const auto host = read_host_ids();
  if (!host) return fail(host.error());
  host_ = *host;
  return {};
}

Result<> CloneOpener::open_files() {
  const Options& options = request_.options;
  if (exists(options.dest)) {
    auto file = ExclusiveFile::open(options.dest, "destination", kLockPatience);
    if (!file) return fail(file.error());
    destination_file_ = std::move(*file);
  }
  if (exists(options.meta)) {
    auto file = ExclusiveFile::open(options.meta, "metadata", kLockPatience);
    if (!file) return fail(file.error());
    const std::uint64_t size = file->size() / kUnitBytes * kUnitBytes;
    opened_.metadata_device =
        std::make_unique<FileDevice>(reactor_, bounce_, std::move(*file), size);
  }
  return {};
}

Task<Result<CloneOpener::Found>> CloneOpener::look_at_metadata() {
  if (!opened_.metadata_device) co_return Found::nothing;
  if (opened_.metadata_device->size() < 2 * kUnitBytes) {
    if (opened_.metadata_device->file().size() == 0) co_return Found::blank;
    why_invalid_ = "metadata " + request_.options.meta + ": is too short to be that of a clone";
    co_return Found::invalid;
  }
  auto read = co_await read_superblock(*opened_.metadata_device);
  if (!read) {
    const std::error_code code = read.error().code;
    if (code != Errc::damaged && code != Errc::foreign) co_return fail(read.error());
    why_invalid_ = "metadata " + request_.options.meta + ": " + read.error().message();
    co_return Found::invalid;
  }
  if (!read->has_value()) co_return Found::blank;
  superblock_ = **read;
  co_return superblock_.name == request_.name ? Found::ours : Found::another;
}

Result<> CloneOpener::decide_existing(Found found) const {
  const std::string meta = "metadata " + request_.options.meta;
  switch (found) {
    case Found::ours:
      if (destination_file_.fd() >= 0) return {};
      return fail(Errc::refused,
                  sentence(meta + " is there, but destination " + request_.options.dest +
                           " is missing: is its file system mounted?"));
    case Found::invalid:
      return fail(Errc::damaged, sentence(why_invalid_));
    case Found::another:
      return fail(Errc::foreign, sentence(meta + " belongs to the clone " + superblock_.name));
    default:
      return fail(Errc::damaged, sentence(meta + " is blank, yet the clone is known"));
  }
}

Result<> CloneOpener::decide_new(Found found) const {
  if (request_.options.init_overwrite) return {};
  if (found == Found::another) {
    return fail(Errc::foreign, sentence("metadata " + request_.options.meta +
                                        " belongs to the clone " + superblock_.name + kInitHint));
  }
  if (found == Found::invalid) return fail(Errc::damaged, sentence(why_invalid_ + kInitHint));
  if (destination_file_.fd() < 0) return {};
  const auto holds = destination_file_.holds_data();
  if (!holds) return fail(holds.error());
  if (!*holds) return {};
  return fail(Errc::refused, sentence("destination " + request_.options.dest +
                                      " holds data and has no metadata" + kInitHint));
}

// ---- a clone that is there ----

Task<Result<OpenedClone>> CloneOpener::open_existing() {
  keep_size();
  if (auto checked = check_existing(); !checked) co_return fail(checked.error());
  if (auto ready = open_destination(); !ready) co_return fail(ready.error());
  if (!superblock_.complete) {
    auto made =
        make_link(OriginLink::Binding{superblock_.origin_size, superblock_.origin_identity});
    if (!made) co_return fail(made.error());
    opened_.origin->start();
    const auto look_until = reactor_.now() + kLookAtOrigin;
    auto looked = co_await opened_.origin->refuse_if_changed(look_until);
    if (!looked) co_return fail(looked.error());
  }
  auto attached = co_await attach();
  if (!attached) co_return fail(attached.error());
  co_return std::move(opened_);
}

// The kernel's configuration may be older than the last growth: nobody saved it, or there was a
// crash before the kernel took the new size. Users may have written to what is new.
void CloneOpener::keep_size() {
  const std::uint64_t asked = request_.size_bytes;
  if (grown_from_ == 0 || asked < grown_from_ || asked >= superblock_.size_bytes) return;
  log_line(LOG_WARNING,
           "clone {}: has grown to {} bytes, dev_size says {}: it keeps its size: set attribute "
           "dev_size={} and save the configuration",
           request_.name, superblock_.size_bytes, request_.size_bytes, superblock_.size_bytes);
  request_.size_bytes = superblock_.size_bytes;
}

Result<> CloneOpener::check_existing() const {
  const auto text = [](std::uint64_t n) { return std::to_string(n); };
  if (superblock_.size_bytes != request_.size_bytes) {
    return fail(
        Errc::foreign,
        sentence(
            "has " + text(superblock_.size_bytes) + " bytes, the LUN " + text(request_.size_bytes) +
            ": create it with its own size; it grows while it is open: set attribute dev_size"));
  }
  if (superblock_.region_size != request_.options.region_size) {
    return fail(Errc::foreign, sentence("was made with region_size=" +
                                        text(superblock_.region_size) + ": that cannot change"));
  }
  if (destination_file_.size() < request_.size_bytes) {
    return fail(Errc::foreign, sentence("destination " + request_.options.dest + " has shrunk to " +
                                        text(destination_file_.size()) + " bytes"));
  }
  const std::string& expected = superblock_.destination_identity;
  const std::string present = destination_file_.identity();
  if (ExclusiveFile::differ(expected, present)) {
    return fail(Errc::foreign, sentence("destination " + request_.options.dest +
                                        " is not the one the clone was made with (it was " +
                                        expected + ", this is " + present +
                                        "): after a deliberate move, clonectl repair META "
                                        "--rebind --dest"));
  }
  return {};
}

// ---- a new one ----

Task<Result<OpenedClone>> CloneOpener::create() {
  auto made = make_link(std::nullopt);
  if (!made) co_return fail(made.error());
  const auto give_up = reactor_.now() + kFirstConnect;
  auto connected = co_await opened_.origin->open(give_up);
  if (!connected) co_return fail(connected.error());
  if (opened_.origin->size() == 0) {
    co_return fail(Errc::refused, sentence("the origin is empty"));
  }
  if (opened_.origin->size() > request_.size_bytes) {
    log_line(LOG_NOTICE, "clone {}: the origin has {} bytes, the LUN shows the first {}",
             request_.name, opened_.origin->size(), request_.size_bytes);
  }
  auto created = co_await create_files();
  if (created) created = co_await attach();
  if (!created) {
    co_await undo_creation();
    co_return fail(created.error());
  }
  co_return std::move(opened_);
}

Task<Result<>> CloneOpener::create_files() {
  if (auto prepared = prepare_destination(); !prepared) co_return prepared;
  if (auto ready = open_destination(); !ready) co_return ready;
  co_return co_await create_metadata();
}

Result<> CloneOpener::prepare_destination() {
  if (destination_file_.fd() < 0) {
    auto file = ExclusiveFile::create(request_.options.dest, "destination", request_.size_bytes);
    if (!file) return fail(file.error());
    destination_file_ = std::move(*file);
    created_destination_ = true;
    // Its size before the metadata that count on it.
    if (auto synced = destination_file_.sync(); !synced) return synced;
    return destination_file_.sync_parent();
  }
  if (destination_file_.size() >= request_.size_bytes) return {};
  if (!destination_file_.block_device()) {
    destination_size_before_ = destination_file_.size();
    if (auto resized = destination_file_.resize(request_.size_bytes); !resized) return resized;
    return destination_file_.sync();
  }
  return fail(Errc::refused, sentence("destination " + request_.options.dest + " has only " +
                                      std::to_string(destination_file_.size()) +
                                      " bytes, the LUN " + std::to_string(request_.size_bytes)));
}

// A file gets all the space that any commit can need now, so that no FLUSH meets ENOSPC.
Task<Result<>> CloneOpener::create_metadata() {
  const std::uint64_t size = units_for(request_.size_bytes) * kUnitBytes;
  auto ready = co_await open_new_metadata(size);
  if (!ready) co_return ready;
  ready = opened_.metadata_device->grow(size);
  if (!ready) co_return ready;
  superblock_ = new_superblock();
  auto formatted = co_await format(*opened_.metadata_device, superblock_);
  if (!formatted) co_return formatted;
  const auto read = co_await read_superblock(*opened_.metadata_device);
  if (!read) co_return fail(read.error());
  superblock_ = read->value();
  co_return Result<>{};
}

Task<Result<>> CloneOpener::open_new_metadata(std::uint64_t size) {
  if (opened_.metadata_device) {
    metadata_size_before_ = opened_.metadata_device->file().size();
    auto before = co_await read_head(*opened_.metadata_device);
    if (!before) co_return fail(before.error());
    metadata_before_ = std::move(*before);
    co_return Result<>{};
  }
  auto made = make_private_folder(request_.site.state_dir, "state folder");
  if (!made) co_return made;
  auto file = ExclusiveFile::create(request_.options.meta, "metadata", size);
  if (!file) co_return fail(file.error());
  created_metadata_ = true;
  if (auto synced = file->sync_parent(); !synced) co_return synced;
  opened_.metadata_device = std::make_unique<FileDevice>(reactor_, bounce_, std::move(*file), size);
  co_return Result<>{};
}

Superblock CloneOpener::new_superblock() const {
  Superblock fresh;
  fresh.uuid = random_id();
  fresh.name = request_.name;
  fresh.size_bytes = request_.size_bytes;
  fresh.region_size = request_.options.region_size;
  fresh.origin_size = opened_.origin->binding()->size;
  fresh.origin_identity = opened_.origin->binding()->identity;
  fresh.destination_identity = opened_.destination->file().identity();
  return fresh;
}

// Only what this opener made or changed a moment ago; nobody can have used it yet.
Task<> CloneOpener::undo_creation() {
  std::error_code code;
  ::unlink(LiveMap::path_of(live_dir_, superblock_.uuid).c_str());
  if (opened_.metadata) ::unlink(known_clones_.path(request_.name).c_str());
  if (created_metadata_) {
    ::unlink(request_.options.meta.c_str());
  } else if (opened_.metadata_device) {
    co_await put_metadata_back();
  }
  if (created_destination_) {
    ::unlink(request_.options.dest.c_str());
  } else if (destination_size_before_) {
    std::filesystem::resize_file(request_.options.dest, *destination_size_before_, code);
  }
}

Task<> CloneOpener::put_metadata_back() {
  if (!metadata_before_.empty()) {
    auto written = co_await write_head(*opened_.metadata_device, metadata_before_);
    if (!written) {
      log_line(LOG_ERR, "clone {}: its creation failed, and metadata {} cannot be put back: {}",
               request_.name, request_.options.meta, written.error().message());
    }
  }
  if (!opened_.metadata_device->file().block_device()) {
    std::error_code code;
    std::filesystem::resize_file(request_.options.meta, metadata_size_before_, code);
  }
}

// ---- both ----

Result<> CloneOpener::make_link(std::optional<OriginLink::Binding> expected) {
  const Options& options = request_.options;
  OriginSettings settings;
  settings.timeout = milliseconds(options.origin_timeout_ms);
  settings.token = options.origin_token;
  settings.ca_file = options.origin_ca;
  const auto shared = [this](std::string_view spec, const OriginSettings& its) {
    return shared_origin_factory(spec, reactor_, its);
  };
  auto candidates = origin_candidates(options.origin, options.alternates, shared, settings);
  if (!candidates) return fail(candidates.error());
  opened_.origin = std::make_unique<OriginLink>(std::move(*candidates), std::move(expected));
  return {};
}

Task<Result<>> CloneOpener::attach() {
  auto store =
      co_await MetadataStore::attach(*opened_.metadata_device, superblock_, live_dir_, host_);
  if (!store) co_return fail(store.error());
  opened_.metadata = std::move(*store);
  opened_.record = {id_text(superblock_.uuid), request_.options.dest, request_.options.meta,
                    opened_.metadata->superblock().sequence, grown_from_};
  auto remembered = known_clones_.remember(request_.name, opened_.record);
  if (!remembered && known_) {  // All but the sequence is there.
    log_line(LOG_WARNING, "clone {}: {}", request_.name, remembered.error().message());
    co_return Result<>{};
  }
  co_return remembered;
}

Result<> CloneOpener::open_destination() {
  const bool block_device = destination_file_.block_device();
  opened_.destination = std::make_unique<FileDevice>(
      reactor_, bounce_, std::move(destination_file_), request_.size_bytes);
  const bool direct = opened_.destination->direct();
  if (block_device && !direct) {
    return fail(Errc::refused, sentence("destination " + request_.options.dest +
                                        " cannot be used with O_DIRECT: its sectors are 4096 bytes "
                                        "and the size of the LUN is no multiple of that"));
  }
  log_line(LOG_INFO, "clone {}: destination {} opened {}", request_.name, request_.options.dest,
           direct ? "O_DIRECT" : "buffered");
  return {};
}

}  // namespace clonedev
