// The device as the outside sees it: a thread with a reactor, an engine on it, and requests that
// are posted to it.

#include "clonedev/clone_device.h"

#include <fmt/format.h>

#include <atomic>
#include <future>
#include <system_error>
#include <thread>

#include "clonedev/service_thread.h"
#include "core/log.h"
#include "engine/clone_opener.h"
#include "engine/engine.h"
#include "engine/longer_files.h"
#include "engine/messages.h"

namespace clonedev {
namespace {

constexpr std::size_t kOriginPool = std::size_t{64} << 20;
constexpr std::size_t kBouncePool = std::size_t{16} << 20;

class Clone final : public CloneDevice {
 public:
  explicit Clone(std::unique_ptr<Reactor> reactor) : reactor_(std::move(reactor)) {}
  ~Clone() override { close(); }

  Result<> start(OpenRequest request);

  void read(Extent extent, std::span<const iovec> data, Completion completion) override {
    reactor_->post([=, this] { spawn(serve_read(extent, data, completion)); });
  }
  void write(Extent extent, std::span<const iovec> data, bool fua, Completion completion) override {
    reactor_->post([=, this] { spawn(serve_write(extent, data, fua, completion)); });
  }
  void zero(Extent extent, Zeroing how, bool fua, Completion completion) override {
    reactor_->post([=, this] { spawn(serve_zero(extent, how, fua, completion)); });
  }
  void flush(Completion completion) override {
    reactor_->post([=, this] { spawn(serve_flush(completion)); });
  }
  void compare_and_write(Extent extent, std::span<const iovec> data, bool fua,
                         Completion completion) override {
    reactor_->post([=, this] { spawn(serve_compare_and_write(extent, data, fua, completion)); });
  }

  void provisioning(Extent extent, std::span<ProvisionedRun> runs, std::size_t& found,
                    Completion completion) override {
    reactor_->post([this, extent, runs, &found, completion] {
      found = engine_->provisioning(extent, runs);
      completion.done(completion.context, {});
    });
  }

  void answered(void* context) override {
    reactor_->post([=, this] { engine_->answered(context); });
  }

  Status status() override;
  bool write_protected() const override { return write_protected_; }
  Result<> reconfigure(const Options& options) override;
  Result<> message(std::string_view words) override;
  Result<Verification> verify(VerifyAction action) override;
  Result<> grow(std::uint64_t size_bytes) override;
  Result<> close() override;

 private:
  Task<> serve_read(Extent extent, std::span<const iovec> data, Completion completion) {
    const auto outcome = co_await engine_->read(extent, data);
    completion.done(completion.context, outcome);
  }
  Task<> serve_write(Extent extent, std::span<const iovec> data, bool fua, Completion completion) {
    const auto outcome = co_await engine_->write(extent, data, fua);
    completion.done(completion.context, outcome);
  }
  Task<> serve_zero(Extent extent, Zeroing how, bool fua, Completion completion) {
    const auto outcome = co_await engine_->zero(extent, how, fua);
    completion.done(completion.context, outcome);
  }
  Task<> serve_flush(Completion completion) {
    const auto outcome = co_await engine_->flush();
    completion.done(completion.context, outcome);
  }
  Task<> serve_compare_and_write(Extent extent, std::span<const iovec> data, bool fua,
                                 Completion completion) {
    const auto outcome = co_await engine_->compare_and_write(extent, data, fua, completion.context);
    completion.done(completion.context, outcome);
  }
  Task<> serve_clear(std::promise<Result<>>* answer) {
    auto outcome = co_await engine_->clear_needs_check();
    write_protected_ = engine_->write_protected();
    answer->set_value(std::move(outcome));
  }
  Task<> serve_grow(std::uint64_t size_bytes, std::promise<Result<>>* answer) {
    auto outcome = co_await engine_->grow(size_bytes);
    answer->set_value(std::move(outcome));
  }
  Task<> serve_stop(std::promise<Result<>>* answer) {
    auto outcome = co_await engine_->stop();
    answer->set_value(std::move(outcome));
  }

  void begin();
  Status status_now() const;
  void remember_sequence();
  Result<> remember_size();
  // Runs f on the reactor and waits for what it returns.
  template <class F>
  auto ask(F f) {
    std::promise<decltype(f())> answer;
    reactor_->post([&] { answer.set_value(f()); });
    return answer.get_future().get();
  }

  // Constant after start().
  std::unique_ptr<Reactor> reactor_;
  BufferPool origin_pool_{kOriginPool};
  BufferPool bounce_pool_{kBouncePool};
  std::string name_;
  std::optional<KnownClones> known_clones_;
  OpenedClone opened_;
  std::unique_ptr<Engine> engine_;

  std::atomic<bool> write_protected_ = false;

  Options options_;  // Reactor thread.
  std::thread thread_;
  Status last_status_;  // Of a device that is closed.
  Result<> closed_;
};

Result<> Clone::start(OpenRequest request) {
  name_ = request.name;
  options_ = request.options;
  known_clones_.emplace(request.site.state_dir);
  CloneOpener opener(std::move(request), *reactor_, bounce_pool_);
  auto opened = reactor_->run([&] { return opener.open(); });
  if (!opened) return fail(opened.error());
  opened_ = std::move(*opened);
  try {
    begin();
  } catch (const std::system_error& e) {
    if (opened_.origin) reactor_->run([this] { return opened_.origin->close(); });
    return fail(Errc::unavailable, fmt::format("{}: no thread for the clone: {}", name_, e.what()));
  }
  return {};
}

void Clone::begin() {
  engine_ = std::make_unique<Engine>(Engine::Parts{*reactor_, origin_pool_, *opened_.destination,
                                                   *opened_.metadata, opened_.origin.get()},
                                     options_);
  write_protected_ = engine_->write_protected();
  thread_ = start_service_thread("clone-" + name_, Rights::files, [this] { reactor_->run(); });
  reactor_->post([this] { engine_->start(); });
}

Status Clone::status_now() const {
  Status status = engine_->status();
  status.name = name_;
  status.destination_direct = opened_.destination->direct();
  status.io = reactor_->io_name();
  if (!opened_.origin) {
    status.origin.state = "closed";
    return status;
  }
  static constexpr const char* kStates[] = {"connecting", "connected", "down", "closed"};
  status.origin.state = kStates[static_cast<std::size_t>(opened_.origin->state())];
  status.origin.using_spec = opened_.origin->in_use();
  status.origin.last_error = opened_.origin->last_error();
  status.origin.bytes_read = opened_.origin->bytes_read();
  return status;
}

Status Clone::status() {
  if (!thread_.joinable()) return last_status_;
  return ask([this] { return status_now(); });
}

Result<> Clone::reconfigure(const Options& options) {
  if (!thread_.joinable()) return fail(Errc::closed, "the device is closed");
  return ask([&]() -> Result<> {
    if (const char* key = options_.first_static_difference(options)) {
      return fail(Errc::refused, std::string(key) +
                                     ": cannot change while the LUN exists: remove the LUN and "
                                     "create it again");
    }
    options_ = options;
    engine_->apply_live(options_);
    return {};
  });
}

Result<> Clone::message(std::string_view words) {
  if (!thread_.joinable()) return fail(Errc::closed, "the device is closed");
  if (words == "clear_needs_check") {
    std::promise<Result<>> answer;
    reactor_->post([&] { spawn(serve_clear(&answer)); });
    return answer.get_future().get();
  }
  return ask([&]() -> Result<> {
    auto changed = apply_message(words, options_);
    if (!changed) return fail(changed.error());
    options_ = std::move(*changed);
    engine_->apply_live(options_);
    return {};
  });
}

Result<Verification> Clone::verify(VerifyAction action) {
  if (!thread_.joinable()) return fail(Errc::closed, "the device is closed");
  return ask([&] { return engine_->verify(action); });
}

Result<> Clone::grow(std::uint64_t size_bytes) {
  if (!thread_.joinable()) return fail(Errc::closed, "the device is closed");
  const auto possible = ask([&] { return engine_->judge_growth(size_bytes); });
  if (!possible) return possible;
  auto longer = LongerFiles::make(*opened_.destination, *opened_.metadata_device, size_bytes);
  if (!longer) return fail(longer.error());
  auto grown = remember_size();
  if (grown) {
    std::promise<Result<>> answer;
    reactor_->post([&] { spawn(serve_grow(size_bytes, &answer)); });
    grown = answer.get_future().get();
  }
  // After a failed commit nobody can say which size is durable.
  if (!grown && !ask([this] { return engine_->needs_check(); })) longer->undo();
  return grown;
}

// Before it can be another one.
Result<> Clone::remember_size() {
  if (opened_.record.grown_from != 0) return {};
  auto record = opened_.record;
  record.grown_from = ask([this] { return engine_->status().size_bytes; });
  auto remembered = known_clones_->remember(name_, record);
  if (remembered) opened_.record = std::move(record);
  return remembered;
}

Result<> Clone::close() {
  if (!thread_.joinable()) return closed_;
  std::promise<Result<>> answer;
  reactor_->post([&] { spawn(serve_stop(&answer)); });
  closed_ = answer.get_future().get();
  last_status_ = ask([this] { return status_now(); });
  reactor_->stop();
  thread_.join();
  opened_.destination->drop_page_cache();
  remember_sequence();
  engine_.reset();
  opened_ = {};  // Gives the locks up.
  return closed_;
}

void Clone::remember_sequence() {
  opened_.record.sequence = opened_.metadata->superblock().sequence;
  auto remembered = known_clones_->remember(name_, opened_.record);
  if (!remembered) log_line(LOG_WARNING, "clone {}: {}", name_, remembered.error().message());
}

}  // namespace

Result<std::unique_ptr<CloneDevice>> CloneDevice::open(OpenRequest request) {
  auto reactor = Reactor::create();
  if (!reactor) return fail(reactor.error());
  auto clone = std::make_unique<Clone>(std::move(*reactor));
  if (auto started = clone->start(std::move(request)); !started) return fail(started.error());
  return clone;
}

}  // namespace clonedev
