#include "memory_clone.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace clonedev::testing {

struct MemoryCloneControl::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::byte> disk;
  std::vector<Call> calls;
  std::map<std::string, std::deque<std::optional<Error>>> failures;
  bool held = false;
};

MemoryCloneControl::MemoryCloneControl(std::uint64_t size_bytes) : state(new State) {
  state->disk.resize(size_bytes);
}

MemoryCloneControl::~MemoryCloneControl() = default;

std::vector<MemoryCloneControl::Call> MemoryCloneControl::calls() const {
  const std::lock_guard lock(state->mutex);
  return state->calls;
}

std::vector<std::byte> MemoryCloneControl::bytes(Extent extent) const {
  const std::lock_guard lock(state->mutex);
  const auto first = state->disk.begin() + static_cast<std::ptrdiff_t>(extent.offset);
  return {first, first + static_cast<std::ptrdiff_t>(extent.length)};
}

void MemoryCloneControl::fail_next(const std::string& what, Error error, int times, int skip) {
  const std::lock_guard lock(state->mutex);
  for (int i = 0; i < skip; ++i) state->failures[what].push_back(std::nullopt);
  for (int i = 0; i < times; ++i) state->failures[what].push_back(error);
}

void MemoryCloneControl::hold() {
  const std::lock_guard lock(state->mutex);
  state->held = true;
}

void MemoryCloneControl::release() {
  {
    const std::lock_guard lock(state->mutex);
    state->held = false;
  }
  state->wake.notify_all();
}

namespace {

std::vector<std::byte> gather(std::span<const iovec> data, std::uint64_t length) {
  std::vector<std::byte> bytes;
  for (const iovec& piece : data) {
    const auto* const from = static_cast<const std::byte*>(piece.iov_base);
    const std::size_t wanted = std::min<std::size_t>(piece.iov_len, length - bytes.size());
    bytes.insert(bytes.end(), from, from + wanted);
  }
  return bytes;
}

class MemoryClone final : public CloneDevice {
 public:
  explicit MemoryClone(std::shared_ptr<MemoryCloneControl> control)
      : control_(std::move(control)), reactor_([this] { run(); }) {}
  ~MemoryClone() override { static_cast<void>(close()); }

  void read(Extent extent, std::span<const iovec> data, Completion completion) override {
    post("read", extent, false, completion, [this, extent, data]() -> Result<> {
      std::uint64_t at = extent.offset;
      for (const iovec& piece : data) {
        const std::size_t part = std::min<std::size_t>(piece.iov_len, extent.end() - at);
        std::memcpy(piece.iov_base, state().disk.data() + at, part);
        at += part;
      }
      return {};
    });
  }

  void write(Extent extent, std::span<const iovec> data, bool fua, Completion completion) override {
    post("write", extent, fua, completion, [this, extent, data]() -> Result<> {
      put(extent.offset, gather(data, extent.length));
      return {};
    });
  }

  void zero(Extent extent, Zeroing how, bool fua, Completion completion) override {
    post(how == Zeroing::keep ? "zero-keep" : "zero-deallocate", extent, fua, completion,
         [this, extent]() -> Result<> {
           put(extent.offset, std::vector<std::byte>(extent.length));
           return {};
         });
  }

  void flush(Completion completion) override {
    post("flush", {}, false, completion, []() -> Result<> { return {}; });
  }

  void compare_and_write(Extent extent, std::span<const iovec> data, bool fua,
                         Completion completion) override {
    post("compare_and_write", extent, fua, completion, [this, extent, data]() -> Result<> {
      const auto all = gather(data, 2 * extent.length);
      for (std::uint64_t i = 0; i < extent.length; ++i) {
        if (all[i] != state().disk[extent.offset + i]) {
          return fail(Error{make_error_code(Errc::miscompare), "the data differ", i});
        }
      }
      put(extent.offset, {all.begin() + static_cast<std::ptrdiff_t>(extent.length), all.end()});
      return {};
    });
  }

  void answered(void*) override {
    const std::lock_guard lock(state().mutex);
    state().calls.push_back({"answered", {}, false});
  }

  void provisioning(Extent extent, std::span<ProvisionedRun> runs, std::size_t& found,
                    Completion completion) override {
    post("provisioning", extent, false, completion, [runs, &found, extent]() -> Result<> {
      runs[0] = {extent, false};
      found = 1;
      return {};
    });
  }

  Status status() override {
    Status status;
    status.name = "memory";
    status.size_bytes = state().disk.size();
    return status;
  }

  bool write_protected() const override { return false; }

  Result<> reconfigure(const Options& options) override {
    if (options.region_size != Options{}.region_size) {
      return fail(Errc::bad_config, "region_size: fixed at creation: leave it as it was");
    }
    return {};
  }

  Result<> message(std::string_view words) override {
    if (words == "enable_hydration") return {};
    return fail(Errc::bad_config, "message: unknown: see the manual");
  }

  Result<Verification> verify(VerifyAction action) override {
    if (action == VerifyAction::start) verification_.state = Verification::State::running;
    if (action == VerifyAction::stop) verification_.state = Verification::State::stopped;
    return verification_;
  }

  Result<> grow(std::uint64_t size_bytes) override {
    const std::lock_guard lock(state().mutex);
    if (size_bytes < state().disk.size()) return fail(Errc::refused, "it cannot shrink");
    state().disk.resize(size_bytes);
    return {};
  }

  Result<> close() override {
    {
      const std::lock_guard lock(state().mutex);
      stopping_ = true;
    }
    state().wake.notify_all();
    if (reactor_.joinable()) reactor_.join();
    return {};
  }

 private:
  using Work = std::function<Result<>()>;
  struct Posted {
    std::string what;
    Work work;
    Completion completion;
  };

  MemoryCloneControl::State& state() { return *control_->state; }

  void put(std::uint64_t offset, const std::vector<std::byte>& bytes) {
    if (!bytes.empty()) std::memcpy(state().disk.data() + offset, bytes.data(), bytes.size());
  }

  void post(const char* what, Extent extent, bool fua, Completion completion, Work work) {
    {
      const std::lock_guard lock(state().mutex);
      state().calls.push_back({what, extent, fua});
      queue_.push_back({what, std::move(work), completion});
    }
    state().wake.notify_all();
  }

  Result<> perform(const Posted& posted) {
    auto& failures = state().failures[posted.what];
    if (failures.empty()) return posted.work();
    std::optional<Error> error = failures.front();
    failures.pop_front();
    return error ? fail(std::move(*error)) : posted.work();
  }

  void run() {
    std::unique_lock lock(state().mutex);
    while (true) {
      state().wake.wait(lock, [this] { return !state().held && (!queue_.empty() || stopping_); });
      if (queue_.empty()) return;  // Stopping.
      const Posted posted = std::move(queue_.front());
      queue_.pop_front();
      const Result<> outcome = perform(posted);
      lock.unlock();
      posted.completion.done(posted.completion.context, outcome);
      lock.lock();
    }
  }

  const std::shared_ptr<MemoryCloneControl> control_;
  std::deque<Posted> queue_;  // Guarded by the control's mutex, as is the next.
  bool stopping_ = false;
  Verification verification_;
  std::thread reactor_;
};

}  // namespace

std::unique_ptr<CloneDevice> make_memory_clone(std::shared_ptr<MemoryCloneControl> control) {
  return std::make_unique<MemoryClone>(std::move(control));
}

}  // namespace clonedev::testing
