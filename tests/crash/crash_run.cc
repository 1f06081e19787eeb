#include "crash_run.h"

#include <fmt/format.h>

#include <cctype>

namespace clonedev {
namespace {

using std::chrono::milliseconds;

// Every operation of a disk takes a while, and steps are seen apart.
constexpr SlowDevice::Delay kSlow{milliseconds(1), milliseconds(1)};
constexpr SlowDevice::Delays kSlowDevice{kSlow, kSlow, kSlow, kSlow};
constexpr milliseconds kFlushTime(1);
constexpr milliseconds kPeriod(1'100);  // A little longer than that of the engine's commits.
constexpr int kPatience = 5'000;

}  // namespace

std::unique_ptr<CloneRig> CrashRun::fresh_rig(const CrashDisk& disk) {
  CloneRig rig(disk.config);
  (void)rig.close();
  MemoryDevice destination = rig.destination_disk->durable();
  destination.poke(disk.window.offset, pattern(2'000'000, disk.window.length));
  return rig.power_cut(std::move(destination), rig.metadata_disk->durable());
}

CrashRun::CrashRun(const CrashDisk& disk, const CloneRig& fresh, CrashJudge& judge)
    : disk_(disk), judge_(judge), shadow_(fresh.origin_bytes(disk.window)) {
  live_on(fresh.power_cut(fresh.destination_disk->durable(), fresh.metadata_disk->durable()));
}

// What lives beneath is taken down last: the scheduler of the newest rig is the current one.
CrashRun::~CrashRun() {
  judging_ = false;
  if (stuck_) {  // What never ends cannot be taken down, and the failure shall be told.
    for (auto& life : lives_) (void)life.release();
    return;
  }
  for (; !lives_.empty(); lives_.pop_back()) {
    life().over = true;
    life().client->die();
    rig().sim.set_observer(nullptr);
    rig().sim.run_until([this] { return idle(); });
  }
}

void CrashRun::complain(const std::string& text) {
  if (complaint_.empty() && !text.empty()) complaint_ = text;
}

std::string CrashRun::run(const std::string& word) {
  for (std::size_t at = 0; at < word.size() && complaint_.empty();) {
    const Letter& letter = letter_of(word[at++]);
    const bool digit = at < word.size() && std::isdigit(static_cast<unsigned char>(word[at]));
    const unsigned changes = digit ? static_cast<unsigned>(word[at++] - '0') : ~0u;
    judging_ = at == word.size();
    begin(letter);
    wait(changes);
    if (digit) overlapped_ = !idle();
  }
  complain(life().client->complaint());
  return complaint_;
}

void CrashRun::begin(const Letter& letter) {
  switch (letter.act) {
    case Letter::Act::request:
      spawn(life().client->serve(request_on(letter, disk_.window.length)));
      break;
    case Letter::Act::hydrate:
      spawn(hydrate(life()));
      break;
    case Letter::Act::commit:
      spawn(commit(life()));
      break;
    case Letter::Act::restart:
      restart();
      break;
    default:
      die(letter);
  }
}

bool CrashRun::idle() { return life().acts == 0 && life().client->under_way() == 0; }

// Until everything has ended, or so many changes.
void CrashRun::wait(unsigned changes) {
  observe();
  const std::uint64_t before = this->changes();
  for (int steps = 0; !idle() && this->changes() - before < changes && complaint_.empty();) {
    stuck_ = !rig().sim.step() || ++steps > kPatience;
    if (stuck_) return complain("a request never ends");
  }
}

Task<> CrashRun::hydrate(Life& life) {
  ++life.acts;
  CloneRig& rig = *life.rig;
  const auto left = [&] { return rig.metadata().map().counts(); };
  const BlockCounts before = left();
  if (!rig.engine().complete()) rig.set_hydration(true);
  while (!life.over && before.origin + before.zero > 0 && left().origin == before.origin &&
         left().zero == before.zero) {
    const milliseconds moment(1);
    co_await rig.sim.sleep_for(moment);
  }
  if (!life.over) rig.set_hydration(false);
  --life.acts;
}

Task<> CrashRun::commit(Life& life) {
  ++life.acts;
  co_await life.rig->sim.sleep_for(kPeriod);
  --life.acts;
}

// ---- ends of a process ----

void CrashRun::restart() {
  rig().sim.run_until([this] { return life().acts == 0; });
  life().client->excuses.origin = true;
  const ShadowDisk::Time begun = shadow_.now();
  const auto closed = rig().close();
  life().client->excuses.origin = false;
  if (!closed) return complain("close: " + closed.error().message());
  shadow_.flushed(begun);
  complain(life().client->complaint());
  open();
}

void CrashRun::die(const Letter& letter) {
  const bool kill = letter.act == Letter::Act::kill;
  const auto next = [&] {
    if (kill) return rig().kill();
    const VolatileDevice& destination = *rig().destination_disk;
    const VolatileDevice& metadata = *rig().metadata_disk;
    if (letter.act == Letter::Act::keep)
      return rig().power_cut(destination.present(), metadata.present());
    return rig().power_cut(destination.durable(), metadata.durable());
  };
  complain(life().client->complaint());
  std::unique_ptr<CloneRig> looking = next();
  const auto found = judge_.found_by(*looking);
  looking.reset();
  if (!found) return complain("cannot be opened: " + found.error().message());
  complain(kill ? shadow_.killed(*found) : shadow_.power_cut(*found));
  std::unique_ptr<CloneRig> heir = next();
  if (kill) {  // A process takes no disk's cache with it.
    *heir->destination_disk = *rig().destination_disk;
    *heir->metadata_disk = *rig().metadata_disk;
  }
  life().over = true;
  life().client->die();
  rig().sim.set_observer(nullptr);
  live_on(std::move(heir));
}

void CrashRun::live_on(std::unique_ptr<CloneRig> next) {
  next->destination_slow->set_delays(kSlowDevice);
  next->metadata_slow->set_delays(kSlowDevice);
  next->destination_disk->set_flush_time(next->sim, kFlushTime);
  next->metadata_disk->set_flush_time(next->sim, kFlushTime);
  next->sim.set_observer([this] { observe(); });
  lives_.push_back(std::make_unique<Life>());
  life().rig = std::move(next);
  life().client = std::make_unique<ShadowClient>(*life().rig, shadow_, disk_.window.offset);
  open();
}

void CrashRun::open() {
  const auto opened = rig().open();
  if (!opened) complain("cannot be opened: " + opened.error().message());
}

// ---- the deaths that are judged ----

std::uint64_t CrashRun::changes() {
  return rig().destination_disk->changes() + rig().metadata_disk->changes() +
         life().client->answered();
}

// Another number when disks, answers or the live map have changed.
std::uint64_t CrashRun::picture() {
  std::uint64_t mixed = changes();
  if (!rig().is_open()) return mixed;
  const StateMap& map = rig().metadata().map();
  const BlockRange blocks = map.geometry().touched(disk_.window);
  for (std::uint64_t block = blocks.first; block < blocks.end(); ++block) {
    mixed = mixed * kBlockStates + static_cast<std::uint64_t>(map.at(block));
  }
  return mixed;
}

void CrashRun::observe() {
  if (!judging_ || !complaint_.empty() || picture() == seen_) return;
  seen_ = picture();
  complain(judge_.power_cut(rig(), shadow_));
  complain(judge_.kill(rig(), shadow_));
}

}  // namespace clonedev
