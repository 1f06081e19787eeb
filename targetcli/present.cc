#include "present.h"

#include <fmt/format.h>

#include "io/exclusive_file.h"
#include "origin/origin_name.h"

namespace clonectl {
namespace {

using clonedev::ExclusiveFile;
using clonedev::fail;
using clonedev::Result;
using clonedev::Task;

Task<Result<>> look(clonedev::Origin& origin, Present& present) {
  auto opened = co_await origin.open();
  if (!opened) co_return opened;
  present.size_bytes = origin.size();
  auto identity = co_await origin.identity();
  if (!identity) co_return fail(identity.error());
  present.identity = std::move(*identity);
  co_return Result<>{};
}

Task<Result<>> look_and_close(clonedev::Origin& origin, Present& present) {
  auto looked = co_await look(origin, present);
  co_await origin.close();
  co_return looked;
}

}  // namespace

Present present_destination(const std::string& path) {
  const auto file = value_or_give_up(ExclusiveFile::open_to_read(path, "destination"));
  return {path, file.size(), file.identity()};
}

Present present_origin(const std::string& spec, clonedev::Reactor& reactor,
                       const clonedev::OriginSettings& settings) {
  const auto factory = value_or_give_up(clonedev::origin_factory(spec, reactor, settings));
  Present present{clonedev::origin_name(spec), 0, ""};
  const auto origin = factory();
  value_or_give_up(reactor.run([&] { return look_and_close(*origin, present); }));
  return present;
}

std::string destination_mismatch(const clonedev::Superblock& superblock, const Present& present) {
  if (ExclusiveFile::differ(superblock.destination_identity, present.identity)) {
    return fmt::format(
        "destination {}: is not the one the clone was made with (it was {}, this is "
        "{}): after a deliberate move: clonectl repair META --rebind",
        present.name, superblock.destination_identity, present.identity);
  }
  if (present.size_bytes < superblock.size_bytes) {
    return fmt::format("destination {}: has only {} bytes, the clone has {}: it was cut short",
                       present.name, present.size_bytes, superblock.size_bytes);
  }
  return {};
}

std::string origin_mismatch(const clonedev::Superblock& superblock, const Present& present) {
  if (superblock.origin_identity == present.identity &&
      superblock.origin_size == present.size_bytes) {
    return {};
  }
  return fmt::format(
      "origin {}: is not the one the clone was made with (it was {} with {} bytes, "
      "this is {} with {}): after a deliberate move: clonectl repair META --rebind",
      present.name, superblock.origin_identity, superblock.origin_size, present.identity,
      present.size_bytes);
}

}  // namespace clonectl
