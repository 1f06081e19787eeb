#include "sharing/origin_hub.h"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <system_error>

#include "clonedev/service_thread.h"

namespace clonedev {
namespace {

constexpr std::chrono::seconds kLongestComparison(2);

// What makes two origins one. The lengths keep the parts apart, whatever is in them.
std::string key_of(std::string_view spec, const OriginSettings& settings) {
  return fmt::format("{}:{};{};{};{}:{};{}:{}", spec.size(), spec, settings.timeout.count(),
                     settings.connections, settings.token.size(), settings.token,
                     settings.ca_file.size(), settings.ca_file);
}

}  // namespace

struct OriginHub::Comparison {
  Event done;
  bool same = false;
};

Result<std::shared_ptr<OriginHub>> OriginHub::of(std::string_view spec,
                                                 const OriginSettings& settings) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<OriginHub>> hubs;  // protected by mutex
  const std::lock_guard lock(mutex);
  std::erase_if(hubs, [](const auto& entry) { return entry.second.expired(); });
  std::weak_ptr<OriginHub>& known = hubs[key_of(spec, settings)];
  if (auto hub = known.lock()) return hub;
  auto made = create(spec, settings);
  if (made) known = *made;
  return made;
}

Result<std::shared_ptr<OriginHub>> OriginHub::create(std::string_view spec,
                                                     const OriginSettings& settings) {
  auto reactor = Reactor::create();
  if (!reactor) return fail(reactor.error());
  std::shared_ptr<OriginHub> hub(new OriginHub(std::move(*reactor), settings.timeout));
  auto factory = origin_factory(spec, *hub->reactor_, settings);
  if (!factory) return fail(factory.error());
  hub->factory_ = std::move(*factory);
  try {
    hub->start();
  } catch (const std::system_error& e) {
    return fail(Errc::unavailable, std::string("no thread for the origin: ") + e.what());
  }
  return hub;
}

// Files: certificates and keys are read with the daemon's rights.
void OriginHub::start() {
  thread_ = start_service_thread("clone-origin", Rights::files, [this] { reactor_->run(); });
}

OriginHub::~OriginHub() {
  if (!thread_.joinable()) return;
  post([this] { spawn(finish()); });
  thread_.join();
}

Task<> OriginHub::finish() {
  while (!inside_.idle()) co_await inside_.wait_for_change();
  reactor_->stop();
}

Task<Result<OriginShare::Opened>> OriginHub::join(OriginMember& member) {
  const auto inside = inside_.enter();
  const std::shared_ptr<OriginShare> mine = share_to_open();
  mine->join();
  member.share = mine;
  auto opened = co_await mine->open();
  if (member.left) co_return fail(Errc::unavailable, "closed");
  if (!opened) {
    member.share.reset();
    mine->leave();
    co_return fail(opened.error());
  }
  member.since = reactor_->now();
  const std::shared_ptr<OriginShare> there = current_.lock();  // Not the one of before.
  const bool same = co_await shows_the_same(there, mine);
  if (member.left) co_return fail(Errc::unavailable, "closed");
  if (!same || !there->usable()) {
    keep_newest(mine);
    co_return opened;
  }
  there->join();
  member.share = there;
  mine->leave();
  co_return co_await there->open();
}

std::shared_ptr<OriginShare> OriginHub::share_to_open() {
  const std::shared_ptr<OriginShare> there = current_.lock();
  if (there && there->just_begun()) return there;
  auto mine = std::make_shared<OriginShare>(factory_(), timeout_, inside_.enter());
  if (!there || !there->usable()) current_ = mine;
  return mine;
}

void OriginHub::keep_newest(const std::shared_ptr<OriginShare>& share) {
  const std::shared_ptr<OriginShare> there = current_.lock();
  if (!there || !there->usable() || there->begun() < share->begun()) current_ = share;
}

// In good time: what hangs is nothing to share.
Task<bool> OriginHub::shows_the_same(std::shared_ptr<OriginShare> there,
                                     std::shared_ptr<OriginShare> mine) {
  if (!there || there == mine || !there->usable()) co_return false;
  auto comparison = std::make_shared<Comparison>();
  auto told = comparison;
  spawn(compare(std::move(there), std::move(mine), std::move(told)));
  const auto give_up = reactor_->now() + kLongestComparison;
  const bool in_time = co_await comparison->done.wait_until(give_up);
  co_return in_time && comparison->same;
}

Task<> OriginHub::compare(std::shared_ptr<OriginShare> there, std::shared_ptr<OriginShare> mine,
                          std::shared_ptr<Comparison> comparison) {
  const auto inside = inside_.enter();
  comparison->same = co_await there->shows_what(*mine);
  comparison->done.set();
}

void OriginMember::leave() {
  left = true;
  if (share) share->leave();
  share.reset();
}

}  // namespace clonedev
