#include "metadata/live_map.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "metadata/layout.h"

namespace clonedev {

// Native byte order: the file never leaves the boot that made it.
struct LiveMap::Header {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t needs_check;
  Id uuid;
  std::array<Id, 2> attach_ids;
  std::uint64_t pages;
  std::uint64_t blocks;
  std::array<std::byte, 1968> reserved1;
  std::array<Caw, kCaws> caws;
};

namespace {

constexpr std::array<char, 8> kLiveMagic{'t', 'c', 'm', 'u', 'l', 'i', 'v', 'e'};
constexpr std::uint32_t kLiveVersion = 3;

constexpr std::size_t kKindsInUnit = kUnitBytes;

std::size_t pages_of(std::uint64_t blocks) {
  return Geometry::divide_up(blocks, StatePages::kBlocksPerPage);
}

// Of the unit with the kind of this page and of its neighbours.
std::size_t kinds_at(std::size_t page) {
  return kUnitBytes + page / kKindsInUnit * (kKindsInUnit + 1) * kUnitBytes;
}

std::size_t slot_at(std::size_t page) {
  return kinds_at(page) + (1 + page % kKindsInUnit) * kUnitBytes;
}

std::size_t file_bytes(std::size_t pages) {
  return (1 + Geometry::divide_up(pages, kKindsInUnit) + pages) * kUnitBytes;
}

template <class T>
void publish(T& place, T value) {
  std::atomic_ref(place).store(value, std::memory_order_release);
}

template <class T>
T observe(T& place) {
  return std::atomic_ref(place).load(std::memory_order_acquire);
}

bool allocate_range(int fd, std::size_t offset, std::size_t length) {
  int outcome = 0;
  do {
    outcome = fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length));
  } while (outcome != 0 && errno == EINTR);
  return outcome == 0;
}

tl::unexpected<Error> failed(Errc code, const std::string& path, const char* what) {
  const int error = errno;
  return fail(error == ENOSPC ? Errc::live_map_full : code,
              fmt::format("{}: the live map cannot be {}: {}", path, what, std::strerror(error)));
}

}  // namespace

std::string LiveMap::path_of(const std::string& dir, const Id& uuid) {
  return dir + "/" + id_text(uuid) + ".live";
}

LiveMap::Header& LiveMap::header() const { return *reinterpret_cast<Header*>(memory_); }

std::uint8_t& LiveMap::kind_byte(std::size_t page) const {
  return reinterpret_cast<std::uint8_t&>(memory_[kinds_at(page) + page % kKindsInUnit]);
}

LiveMap::~LiveMap() {
  if (memory_) munmap(memory_, file_bytes(pages_));
  close(fd_);
}

Result<> LiveMap::stretch(std::size_t pages) {
  struct stat file {};
  if (fstat(fd_, &file) != 0) return failed(Errc::unavailable, path_, "looked at");
  const auto bytes = static_cast<off_t>(file_bytes(pages));
  bool given = file.st_size >= bytes || ftruncate(fd_, bytes) == 0;
  for (std::size_t page = 0; given && page < pages; page += kKindsInUnit) {
    given = allocate_range(fd_, kinds_at(page), kUnitBytes);
  }
  given = given && allocate_range(fd_, 0, kUnitBytes);
  if (!given) return failed(Errc::unavailable, path_, "given memory");
  void* const memory =
      memory_ ? mremap(memory_, file_bytes(pages_), file_bytes(pages), MREMAP_MAYMOVE)
              : mmap(nullptr, file_bytes(pages), PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (memory == MAP_FAILED) return failed(Errc::unavailable, path_, "mapped");
  memory_ = static_cast<std::byte*>(memory);
  pages_ = pages;
  return {};
}

Result<> LiveMap::fill_header(const Id& uuid, const Id& attach_id, std::uint64_t blocks) {
  static_assert(sizeof(Header) == kUnitBytes && offsetof(Header, attach_ids) == 32 &&
                offsetof(Header, pages) == 64 && offsetof(Header, caws) == 2048);
  if (const auto mapped = stretch(pages_of(blocks)); !mapped) return mapped;
  Header& head = header();
  head.magic = kLiveMagic;
  head.version = kLiveVersion;
  head.uuid = uuid;
  head.attach_ids = {attach_id, attach_id};
  head.pages = pages_;
  head.blocks = blocks;
  return {};
}

Result<std::unique_ptr<LiveMap>> LiveMap::create(const std::string& dir, const Id& uuid,
                                                 const Id& attach_id, std::uint64_t blocks) {
  const std::string path = path_of(dir, uuid);
  const std::string temporary = path + ".new";
  if (unlink(temporary.c_str()) != 0 && errno != ENOENT) {
    return failed(Errc::unavailable, temporary, "replaced");
  }
  const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return failed(Errc::unavailable, temporary, "created");
  std::unique_ptr<LiveMap> live(new LiveMap(path, fd));
  auto outcome = live->fill_header(uuid, attach_id, blocks);
  if (outcome && rename(temporary.c_str(), path.c_str()) != 0) {
    outcome = failed(Errc::unavailable, path, "put in place");
  }
  if (outcome) return live;
  unlink(temporary.c_str());
  return fail(outcome.error());
}

Result<std::unique_ptr<LiveMap>> LiveMap::adopt(const std::string& dir, const Id& uuid,
                                                const Id& attach_id, std::uint64_t blocks,
                                                BlockState beyond) {
  const std::string path = path_of(dir, uuid);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return failed(Errc::unavailable, path, "opened");
  std::unique_ptr<LiveMap> live(new LiveMap(path, fd));
  auto sound = live->check_header(uuid, attach_id, blocks);
  if (sound) sound = live->check_pages();
  if (sound) sound = live->catch_up(blocks, beyond);
  if (!sound) return fail(sound.error());
  live->read_caws();
  return live;
}

bool LiveMap::is_left(const std::string& dir, const Id& uuid, const Id& attach_id) {
  const int fd = open(path_of(dir, uuid).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  Header head;
  const bool whole = pread(fd, &head, sizeof head, 0) == sizeof head;
  close(fd);
  return whole && head.magic == kLiveMagic && head.uuid == uuid &&
         std::find(head.attach_ids.begin(), head.attach_ids.end(), attach_id) !=
             head.attach_ids.end();
}

Result<> LiveMap::check_header(const Id& uuid, const Id& attach_id, std::uint64_t blocks) {
  struct stat file {};
  if (fstat(fd_, &file) != 0) return failed(Errc::unavailable, path_, "looked at");
  Header found{};
  if (!S_ISREG(file.st_mode) || file.st_uid != geteuid() ||
      pread(fd_, &found, sizeof found, 0) != sizeof found) {
    return fail(Errc::damaged, fmt::format("{}: not a live map owned by this user", path_));
  }
  const std::size_t most = static_cast<std::size_t>(file.st_size) / kUnitBytes;
  if (found.magic != kLiveMagic || found.version != kLiveVersion || found.blocks == 0 ||
      found.blocks > blocks || found.pages < pages_of(found.blocks) || found.pages > most ||
      file_bytes(found.pages) > static_cast<std::size_t>(file.st_size)) {
    return fail(Errc::damaged, fmt::format("{}: its header is not that of this live map", path_));
  }
  if (const auto mapped = stretch(found.pages); !mapped) return mapped;
  Header& head = header();
  if (head.uuid != uuid || std::find(head.attach_ids.begin(), head.attach_ids.end(), attach_id) ==
                               head.attach_ids.end()) {
    return fail(Errc::foreign,
                fmt::format("{}: it belongs to another clone or another use of it", path_));
  }
  head.attach_ids[0] = attach_id;  // An adoption that died between its last two steps.
  return {};
}

Result<> LiveMap::check_pages() {
  for (std::size_t page = 0; page < pages_; ++page) {
    const std::uint8_t kind = kind_byte(page);
    if (kind > static_cast<std::uint8_t>(PageKind::mixed)) {
      return fail(Errc::damaged, fmt::format("{}: page {} has the kind {}", path_, page, kind));
    }
    if (static_cast<PageKind>(kind) != PageKind::mixed) {
      idle_.insert(idle_.end(), page);
      continue;
    }
    if (!allocate_range(fd_, slot_at(page), kPageBytes)) {
      return failed(Errc::unavailable, path_, "read");
    }
  }
  reclaim();
  return {};
}

PageKind LiveMap::kind(std::size_t page) const {
  return static_cast<PageKind>(observe(kind_byte(page)));
}

StatePages::Words LiveMap::words(std::size_t page) {
  std::byte* const slot = memory_ + slot_at(page);
  return Words(reinterpret_cast<std::uint64_t*>(slot), kWordsPerPage);
}

// To a page that is not mixed.
bool LiveMap::give_memory(std::size_t page) {
  if (idle_.contains(page)) return true;
  if (!allocate_range(fd_, slot_at(page), kPageBytes)) return false;
  idle_.insert(page);
  return true;
}

bool LiveMap::reserve(std::size_t page) {
  if (kind(page) != PageKind::mixed && !give_memory(page)) return false;
  ++reserved_[page];
  return true;
}

void LiveMap::release(std::size_t page) {
  const auto it = reserved_.find(page);
  if (--it->second == 0) reserved_.erase(it);
}

bool LiveMap::allocate(std::size_t page, std::uint64_t fill) {
  if (!give_memory(page)) return false;
  for (std::uint64_t& word : words(page)) {
    std::atomic_ref(word).store(fill, std::memory_order_relaxed);
  }
  return true;
}

void LiveMap::set_kind(std::size_t page, PageKind kind) {
  const PageKind before = this->kind(page);
  publish(kind_byte(page), static_cast<std::uint8_t>(kind));
  if (kind == PageKind::mixed) {
    idle_.erase(page);
  } else if (before == PageKind::mixed) {
    idle_.insert(page);
  }
}

void LiveMap::reclaim() {
  const auto kept = [this](std::size_t page) { return reserved_.contains(page); };
  for (auto it = idle_.begin(); it != idle_.end();) {
    if (kept(*it)) {
      ++it;
      continue;
    }
    const std::size_t first = *it;
    std::size_t end = first;
    do {  // Slots that lie behind each other.
      it = idle_.erase(it);
      ++end;
    } while (it != idle_.end() && *it == end && end % kKindsInUnit != 0 && !kept(end));
    // If this fails, the memory stays allocated, which is harmless.
    fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(slot_at(first)),
              static_cast<off_t>((end - first) * kPageBytes));
  }
}

std::uint64_t LiveMap::blocks() const { return observe(header().blocks); }

Result<> LiveMap::lengthen(std::uint64_t blocks) {
  const std::size_t pages = pages_of(blocks);
  if (pages <= pages_) return {};
  if (auto stretched = stretch(pages); !stretched) return stretched;
  publish(header().pages, std::uint64_t{pages});
  return {};
}

void LiveMap::grow(std::uint64_t blocks, BlockState state) {
  const std::uint64_t before = this->blocks();
  // Where a page ends nothing of the next one has a meaning yet.
  if (before % kBlocksPerPage != 0) {
    grow_page(before / kBlocksPerPage, before % kBlocksPerPage, state);
  }
  for (std::size_t page = pages_of(before); page < pages_of(blocks); ++page) {
    set_kind(page, uniform(state));
  }
  publish(header().blocks, blocks);
}

// All places from the first one on; those behind the end of the disk mean nothing.
void LiveMap::grow_page(std::size_t page, std::size_t first, BlockState state) {
  const PageKind before = kind(page);
  if (before == uniform(state)) return;
  if (before != PageKind::mixed) {
    const bool given = allocate(page, repeated(state_of(before)));
    assert(given && "the room was reserved");
    (void)given;
  }
  for (std::size_t word = first / kBlocksPerWord; word < kWordsPerPage; ++word) {
    std::uint64_t& place = words(page)[word];
    const std::size_t kept = first > word * kBlocksPerWord ? first - word * kBlocksPerWord : 0;
    const std::uint64_t mask = (std::uint64_t{1} << 2 * kept) - 1;
    publish(place, (observe(place) & mask) | (repeated(state) & ~mask));
  }
  if (before != PageKind::mixed) set_kind(page, PageKind::mixed);
}

Result<> LiveMap::catch_up(std::uint64_t blocks, BlockState beyond) {
  if (this->blocks() == blocks) return {};
  if (auto longer = lengthen(blocks); !longer) return longer;
  const std::size_t last = pages_of(this->blocks()) - 1;
  if (!reserve(last)) return failed(Errc::unavailable, path_, "given memory");
  grow(blocks, beyond);
  release(last);
  return {};
}

void LiveMap::propose_id(const Id& next) { header().attach_ids[1] = next; }

void LiveMap::confirm_id() { header().attach_ids[0] = header().attach_ids[1]; }

std::uint64_t LiveMap::remember_caw(std::uint64_t offset, std::uint64_t compare_hash,
                                    std::uint64_t write_hash) {
  Caw& record = header().caws[next_caw_ % kCaws];
  publish(record.serial, std::uint64_t{0});
  publish(record.offset, offset);
  publish(record.compare_hash, compare_hash);
  publish(record.write_hash, write_hash);
  publish(record.serial, next_caw_);
  return next_caw_++;
}

void LiveMap::forget_caw(std::uint64_t serial) {
  Caw& record = header().caws[serial % kCaws];
  if (observe(record.serial) == serial) publish(record.serial, std::uint64_t{0});
}

void LiveMap::read_caws() {
  for (const Caw& record : header().caws) {
    if (record.serial == 0) continue;
    earlier_caws_.push_back(record);
    next_caw_ = std::max(next_caw_, record.serial + 1);
  }
}

std::uint64_t LiveMap::caw_done_before(std::uint64_t offset, std::uint64_t compare_hash,
                                       std::uint64_t write_hash) {
  const auto it = std::find_if(earlier_caws_.begin(), earlier_caws_.end(), [&](const Caw& caw) {
    return caw.offset == offset && caw.compare_hash == compare_hash && caw.write_hash == write_hash;
  });
  if (it == earlier_caws_.end()) return 0;
  const std::uint64_t serial = it->serial;
  earlier_caws_.erase(it);
  return serial;
}

void LiveMap::forget_earlier_caws() {
  for (const Caw& caw : earlier_caws_) forget_caw(caw.serial);
  earlier_caws_.clear();
}

void LiveMap::set_needs_check(bool on) { publish(header().needs_check, std::uint32_t{on}); }

bool LiveMap::needs_check() const { return observe(header().needs_check) != 0; }

void LiveMap::remove() { unlink(path_.c_str()); }

}  // namespace clonedev
