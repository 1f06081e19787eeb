#include "origin/iscsi_origin.h"

#include <fmt/format.h>

#include <algorithm>

#include "origin/origin_name.h"
#include "origin/origin_samples.h"

namespace clonedev {
namespace {

constexpr std::size_t kPieceOfIscsi = 256U << 10;
constexpr std::size_t kRoom = 252;  // For an INQUIRY; old targets look at one byte of the length.
constexpr std::size_t kStatusRoom = 8 + 16 * 128;

}  // namespace

IscsiOrigin::IscsiOrigin(Reactor& reactor, std::string spec, Scheduler::Duration patience,
                         unsigned sessions)
    : reactor_(reactor),
      spec_(std::move(spec)),
      name_(origin_name(spec_)),
      url_(parse_iscsi_url(spec_)),
      patience_(patience),
      most_sessions_(sessions) {}

IscsiOrigin::~IscsiOrigin() = default;

IscsiSession& IscsiOrigin::add_session() {
  return *sessions_.emplace_back(std::make_unique<IscsiSession>(reactor_, *url_, name_, patience_));
}

Task<Result<>> IscsiOrigin::open() {
  const auto inside = gate_.enter();
  if (closed_) co_return fail(no_session());
  if (!url_) co_return fail(remember(named(url_.error())));
  IscsiSession& first = add_session();
  if (auto connected = co_await first.connect(); !connected) {
    failed_ = true;
    co_return fail(remember(connected.error()));
  }
  auto disk = co_await learn(first);
  if (!disk) {
    failed_ = true;
    co_return fail(remember(disk.error()));
  }
  disk_ = std::move(*disk);
  opened_ = true;
  for (unsigned i = 1; i < most_sessions_ && !closed_; ++i) spawn(join());
  co_return Result<>();
}

Task<> IscsiOrigin::join() {
  const auto inside = gate_.enter();
  IscsiSession& another = add_session();
  if (auto connected = co_await another.connect(); !connected) co_return;  // Fewer will do.
  const auto disk = co_await learn(another);
  if (!disk || *disk == disk_) co_return;
  failed_ = true;
  remember({make_error_code(Errc::unavailable),
            fmt::format("origin {}: its sessions disagree about what the LUN is", name_)});
}

Task<Result<ScsiDisk>> IscsiOrigin::learn(IscsiSession& session) {
  std::vector<std::byte> answer(kRoom);
  const std::span<std::byte> room(answer);
  const ScsiCommand ask_kind = inquiry(kRoom);
  if (auto told = co_await session.ask(ask_kind, room); !told) co_return fail(told.error());
  if (auto kind = check_inquiry(room); !kind) co_return fail(named(kind.error()));
  // Takes the unit attention of a fresh session, and finds out about a missing medium.
  const std::span<std::byte> nothing;
  const ScsiCommand ask_ready = test_unit_ready();
  if (auto ready = co_await session.ask(ask_ready, nothing); !ready) co_return fail(ready.error());
  ScsiDisk disk;
  std::fill(answer.begin(), answer.end(), std::byte{});
  const std::span<std::byte> capacity = room.first(32);
  const ScsiCommand ask_size = read_capacity(capacity.size());
  if (auto told = co_await session.ask(ask_size, capacity); !told) co_return fail(told.error());
  if (auto size = take_capacity(capacity, disk); !size) co_return fail(named(size.error()));
  if (auto pages = co_await learn_pages(session, disk); !pages) co_return fail(pages.error());
  co_return disk;
}

// A disk without these pages has to do without.
Task<Result<>> IscsiOrigin::learn_pages(IscsiSession& session, ScsiDisk& disk) {
  for (const std::uint8_t page : {kBlockLimits, kDeviceIdentification}) {
    std::vector<std::byte> answer(kRoom);
    const std::span<std::byte> room(answer);
    const ScsiCommand ask_page = inquiry_page(page, kRoom);
    auto told = co_await session.ask(ask_page, room);
    if (!told && told.error().code != Errc::origin_read) co_return fail(told.error());
    if (!told) continue;
    if (page == kBlockLimits) take_block_limits(room, disk);
    if (page == kDeviceIdentification) take_designator(room, disk);
  }
  co_return Result<>();
}

IscsiSession* IscsiOrigin::least_busy() const {
  IscsiSession* best = nullptr;
  if (state() != State::connected) return best;
  for (const auto& session : sessions_) {
    if (!session->usable()) continue;
    if (!best || session->outstanding() < best->outstanding()) best = session.get();
  }
  return best;
}

std::size_t IscsiOrigin::usable_sessions() const {
  return static_cast<std::size_t>(
      std::count_if(sessions_.begin(), sessions_.end(), [](const auto& s) { return s->usable(); }));
}

Task<Result<OriginBytes>> IscsiOrigin::read(std::uint64_t offset, std::span<std::byte> room) {
  const auto inside = gate_.enter();
  Limits limits{disk_.sector, kPieceOfIscsi};
  const std::uint64_t allowed = std::uint64_t{disk_.most_sectors} * disk_.sector;
  if (allowed != 0) limits.most = std::min<std::size_t>(limits.most, allowed);
  co_return co_await read_pieces(offset, room, limits);
}

Task<Result<>> IscsiOrigin::read_piece(std::uint64_t offset, std::span<std::byte> buffer) {
  IscsiSession* session = least_busy();
  if (!session) co_return fail(no_session());
  const ScsiCommand command =
      read_sectors(offset / disk_.sector, static_cast<std::uint32_t>(buffer.size() / disk_.sector));
  auto done = co_await session->read(command, buffer);
  if (!done) co_return fail(remember(done.error()));
  co_return Result<>();
}

Task<Result<std::vector<OriginExtent>>> IscsiOrigin::extents(Extent range) {
  const auto inside = gate_.enter();
  const std::vector<OriginExtent> unknown{{range, false}};
  IscsiSession* session = least_busy();
  if (!session) co_return fail(no_session());
  if (!disk_.unmapped_is_zero || !tells_holes_) co_return unknown;
  std::vector<std::byte> answer(kStatusRoom);
  const std::span<std::byte> room(answer);
  const ScsiCommand command = get_lba_status(range.offset / disk_.sector, kStatusRoom);
  auto told = co_await session->ask(command, room);
  if (!told) {
    const Error error = remember(told.error());
    if (error.code == Errc::unavailable) co_return fail(error);
    tells_holes_ = false;  // A disk that cannot say has to be read.
    co_return unknown;
  }
  std::vector<OriginExtent> parts = take_lba_status(room, disk_, range);
  if (parts.empty()) co_return unknown;
  co_return parts;
}

Task<Result<std::string>> IscsiOrigin::identity() {
  const auto inside = gate_.enter();
  const std::string name = disk_.designator.empty() ? "" : disk_.designator + ";";
  auto digest = co_await sample_digest(*this);
  if (!digest) co_return fail(digest.error());
  co_return fmt::format("iscsi:{}size={};samples={}", name, disk_.size, *digest);
}

Origin::State IscsiOrigin::state() const {
  if (closed_) return State::closed;
  if (failed_) return State::down;
  if (!opened_) return State::connecting;
  const bool lost = std::any_of(sessions_.begin(), sessions_.end(),
                                [](const auto& session) { return session->lost(); });
  return lost ? State::down : State::connected;
}

Error IscsiOrigin::named(const Error& error) const {
  return {error.code, origin_sentence(spec_, fmt::format("origin {}: {}", name_, error.context))};
}

Error IscsiOrigin::remember(Error error) {
  last_error_ = error.context;
  return error;
}

Error IscsiOrigin::no_session() {
  for (const auto& session : sessions_) {
    if (session->lost() && !session->failure().empty()) {
      return {make_error_code(Errc::unavailable),
              origin_sentence(spec_, fmt::format("origin {}: {}", name_, session->failure()))};
    }
  }
  const std::string text =
      last_error_.empty() ? fmt::format("origin {}: is not connected", name_) : last_error_;
  return {make_error_code(Errc::unavailable), text};
}

Task<> IscsiOrigin::close() {
  closed_ = true;
  for (const auto& session : sessions_) session->stop();
  for (const auto& session : sessions_) co_await session->close();
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
