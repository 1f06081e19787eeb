#include "origin/nbd_origin.h"

#include <fmt/format.h>

#include <algorithm>

#include "origin/origin_name.h"
#include "origin/origin_samples.h"

namespace clonedev {
namespace {

constexpr std::uint32_t kPieceOfNbd = 1U << 20;
constexpr std::uint64_t kMostAsked = std::uint64_t{1} << 30;  // Of block status, at once.

}  // namespace

NbdOrigin::NbdOrigin(Reactor& reactor, std::string uri, Scheduler::Duration patience,
                     unsigned connections)
    : reactor_(reactor),
      uri_(std::move(uri)),
      patience_(patience),
      most_connections_(connections) {}

NbdOrigin::~NbdOrigin() = default;

NbdConnection& NbdOrigin::add_connection() {
  return *connections_.emplace_back(std::make_unique<NbdConnection>(reactor_, uri_, patience_));
}

Task<Result<>> NbdOrigin::open() {
  const auto inside = gate_.enter();
  if (closed_) co_return fail(no_connection());
  NbdConnection& first = add_connection();
  auto connected = co_await first.connect();
  if (!connected) {
    failed_ = true;
    co_return fail(remember(connected.error()));
  }
  export_ = first.exported();
  if (export_.size == 0) {
    failed_ = true;
    const std::string name = origin_name(uri_);
    co_return fail(remember({make_error_code(Errc::refused),
                             fmt::format("origin {}: is empty: there is nothing to clone", name)}));
  }
  opened_ = true;
  if (export_.multi_conn) {
    for (unsigned i = 1; i < most_connections_ && !closed_; ++i) spawn(join());
  }
  co_return Result<>();
}

Task<> NbdOrigin::join() {
  const auto inside = gate_.enter();
  NbdConnection& another = add_connection();
  auto connected = co_await another.connect();
  if (!connected || another.exported().size == export_.size) co_return;  // Fewer will do.
  failed_ = true;
  remember({make_error_code(Errc::unavailable),
            fmt::format("origin {}: its connections disagree about the size: {} and {} bytes",
                        origin_name(uri_), export_.size, another.exported().size)});
}

NbdConnection* NbdOrigin::least_busy() const {
  NbdConnection* best = nullptr;
  if (state() != State::connected) return best;
  for (const auto& connection : connections_) {
    if (!connection->usable()) continue;
    if (!best || connection->outstanding() < best->outstanding()) best = connection.get();
  }
  return best;
}

std::size_t NbdOrigin::usable_connections() const {
  return static_cast<std::size_t>(std::count_if(connections_.begin(), connections_.end(),
                                                [](const auto& c) { return c->usable(); }));
}

Task<Result<OriginBytes>> NbdOrigin::read(std::uint64_t offset, std::span<std::byte> room) {
  const auto inside = gate_.enter();
  const Limits limits{export_.minimum, std::min(kPieceOfNbd, export_.maximum)};
  co_return co_await read_pieces(offset, room, limits);
}

Task<Result<>> NbdOrigin::read_piece(std::uint64_t offset, std::span<std::byte> buffer) {
  NbdConnection* connection = least_busy();
  if (!connection) co_return fail(no_connection());
  auto done = co_await connection->read(offset, buffer);
  if (!done) co_return fail(remember(done.error()));
  co_return Result<>();
}

Task<Result<std::vector<OriginExtent>>> NbdOrigin::extents(Extent range) {
  const auto inside = gate_.enter();
  const std::vector<OriginExtent> unknown{{range, false}};
  NbdConnection* connection = least_busy();
  if (!connection) co_return fail(no_connection());
  if (!export_.block_status) co_return unknown;
  Extent asked = widened(range, export_.minimum);
  asked.length = std::min(asked.length, kMostAsked);
  auto answer = co_await connection->block_status(asked);
  if (!answer) {
    const Error error = remember(answer.error());
    if (error.code == Errc::unavailable) co_return fail(error);
    co_return unknown;  // A server that cannot say has to be read.
  }
  std::vector<OriginExtent> inside_range;
  for (const OriginExtent& part : *answer) {
    const Extent extent = intersect(part.extent, range);
    if (!extent.empty()) inside_range.push_back({extent, part.zero});
  }
  if (inside_range.empty()) co_return unknown;
  co_return inside_range;
}

Task<Result<std::string>> NbdOrigin::identity() {
  const auto inside = gate_.enter();
  auto digest = co_await sample_digest(*this);
  if (!digest) co_return fail(digest.error());
  co_return fmt::format("nbd:size={};samples={}", export_.size, *digest);
}

Origin::State NbdOrigin::state() const {
  if (closed_) return State::closed;
  if (failed_) return State::down;
  if (!opened_) return State::connecting;
  const bool lost = std::any_of(connections_.begin(), connections_.end(),
                                [](const auto& connection) { return connection->lost(); });
  return lost ? State::down : State::connected;
}

Error NbdOrigin::remember(Error error) {
  last_error_ = error.context;
  return error;
}

Error NbdOrigin::no_connection() {
  for (const auto& connection : connections_) {
    if (connection->lost() && !connection->failure().empty()) {
      return {make_error_code(Errc::unavailable),
              origin_sentence(uri_, fmt::format("origin {}: {}", uri_, connection->failure()))};
    }
  }
  const std::string text = last_error_.empty()
                               ? fmt::format("origin {}: is not connected", origin_name(uri_))
                               : last_error_;
  return {make_error_code(Errc::unavailable), text};
}

Task<> NbdOrigin::close() {
  closed_ = true;
  for (const auto& connection : connections_) connection->stop();
  for (const auto& connection : connections_) co_await connection->close();
  while (!gate_.idle()) co_await gate_.wait_for_change();
}

}  // namespace clonedev
