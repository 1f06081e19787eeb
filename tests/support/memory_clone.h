// A CloneDevice in memory, for tests of what lies above it: it keeps the threading contract
// (completions on a thread of its own), can hold completions back and fail on request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "clonedev/clone_device.h"

namespace clonedev::testing {

// Shared by the test and the device, so that a test can look after the device has gone.
struct MemoryCloneControl {
  struct Call {
    // read, write, zero-keep, zero-deallocate, flush, compare_and_write, answered, provisioning
    std::string what;
    Extent extent;
    bool fua = false;
  };

  explicit MemoryCloneControl(std::uint64_t size_bytes);
  ~MemoryCloneControl();

  std::vector<Call> calls() const;
  std::vector<std::byte> bytes(Extent extent) const;
  // The next `times` calls named `what` fail with this error and do nothing, after `skip` that do
  // not fail.
  void fail_next(const std::string& what, Error error, int times = 1, int skip = 0);
  // While held, nothing is done, and close() waits.
  void hold();
  void release();

  struct State;
  const std::unique_ptr<State> state;
};

std::unique_ptr<CloneDevice> make_memory_clone(std::shared_ptr<MemoryCloneControl> control);

}  // namespace clonedev::testing
