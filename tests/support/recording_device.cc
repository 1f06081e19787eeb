#include "support/recording_device.h"

#include "io/iovecs.h"

namespace clonedev {

using What = OperationLog::What;

void RecordingDevice::note(What what, Extent extent, bool end) {
  log_.entries.push_back({name_, what, extent, end});
  if (log_.listener) log_.listener(log_.entries.back());
}

Task<Result<>> RecordingDevice::read(std::uint64_t offset, std::span<const iovec> data) {
  const Extent extent{offset, iov_length(data)};
  note(What::read, extent, false);
  auto outcome = co_await lower_.read(offset, data);
  note(What::read, extent, true);
  co_return outcome;
}

Task<Result<>> RecordingDevice::write(std::uint64_t offset, std::span<const iovec> data) {
  const Extent extent{offset, iov_length(data)};
  note(What::write, extent, false);
  auto outcome = co_await lower_.write(offset, data);
  note(What::write, extent, true);
  co_return outcome;
}

Task<Result<>> RecordingDevice::flush() {
  note(What::flush, {}, false);
  auto outcome = co_await lower_.flush();
  note(What::flush, {}, true);
  co_return outcome;
}

Task<Result<>> RecordingDevice::zero(Extent extent, bool deallocate) {
  note(What::zero, extent, false);
  auto outcome = co_await lower_.zero(extent, deallocate);
  note(What::zero, extent, true);
  co_return outcome;
}

}  // namespace clonedev
