#include "metadata/unit_io.h"

#include <fmt/format.h>

#include <vector>

namespace clonedev {
namespace {

constexpr std::size_t kUnitsPerRequest = 256;
constexpr std::size_t kRequests = 16;

enum class Direction { read, write };

// How many of the transfers, from the first on, are neighbours.
std::size_t run_length(std::span<const UnitTransfer> transfers) {
  std::size_t length = 1;
  while (length < transfers.size() && length < kUnitsPerRequest &&
         transfers[length].unit == transfers[0].unit + length) {
    ++length;
  }
  return length;
}

// One request. The parameters live in the coroutine's frame, and so does the iovec list.
Task<Result<>> transfer_run(BlockDevice& device, std::span<const UnitTransfer> run,
                            Direction direction) {
  std::vector<iovec> data;
  data.reserve(run.size());
  for (const UnitTransfer& one : run) data.push_back({one.data->bytes.data(), kUnitBytes});
  const std::uint64_t offset = run[0].unit * kUnitBytes;
  Result<> outcome;
  if (direction == Direction::read) {
    outcome = co_await device.read(offset, data);
  } else {
    outcome = co_await device.write(offset, data);
  }
  if (outcome) co_return outcome;
  co_return fail(Errc::metadata_io,
                 fmt::format("metadata: {} unit {}{} failed: {}",
                             direction == Direction::read ? "reading" : "writing", run[0].unit,
                             run.size() > 1 ? fmt::format("..{}", run.back().unit) : "",
                             outcome.error().message()));
}

Task<Result<>> transfer(BlockDevice& device, std::span<const UnitTransfer> transfers,
                        Direction direction) {
  Result<> outcome;
  while (!transfers.empty() && outcome) {
    std::vector<Task<Result<>>> requests;
    while (!transfers.empty() && requests.size() < kRequests) {
      const std::size_t length = run_length(transfers);
      requests.push_back(transfer_run(device, transfers.first(length), direction));
      transfers = transfers.subspan(length);
    }
    for (Task<Result<>>& request : requests) {
      auto one = co_await request;
      if (!one && outcome) outcome = std::move(one);
    }
  }
  co_return outcome;
}

}  // namespace

Task<Result<>> read_units(BlockDevice& device, std::span<const UnitTransfer> transfers) {
  return transfer(device, transfers, Direction::read);
}

Task<Result<>> write_units(BlockDevice& device, std::span<const UnitTransfer> transfers) {
  return transfer(device, transfers, Direction::write);
}

Task<Result<>> flush_units(BlockDevice& device) {
  auto outcome = co_await device.flush();
  if (outcome) co_return outcome;
  co_return fail(Errc::metadata_io,
                 fmt::format("metadata: a flush failed: {}", outcome.error().message()));
}

}  // namespace clonedev
