// One disk and its lives: clients with many requests under way, trouble at random, then kill -9, a
// power cut, an orderly close or hydration to the end; what is found must be legal each time.
//
// A process that died lives on beneath the next one (CloneRig), and so do its clients, whom nobody
// listens to any more; all are taken down in reverse order by the destructor.
//
// Thread: one. Everything follows from the seed.
#pragma once

#include <list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support/shadow_disk.h"
#include "support/clone_rig.h"

namespace clonedev {

class ShadowRun {
 public:
  struct Counts {
    std::uint64_t runs = 0, requests = 0, reads = 0, writes = 0, zeroings = 0, compares = 0,
                  flushes = 0, refused = 0, busy = 0, faults = 0, kills = 0, cuts = 0, closes = 0,
                  images = 0, marks = 0, verifications = 0;
  };

  ShadowRun(std::uint64_t seed, Counts& counts);
  ~ShadowRun();

  // Lives until it has ended or a sector was wrong; empty: all was well.
  std::string run();
  std::string description() const;

 private:
  using Time = ShadowDisk::Time;
  // busy: many clients, all kinds of trouble. calm: one client beside a slow hydration, so that
  // what a FLUSH makes durable is the copy's alone. duel: a few clients on two blocks, so that
  // changes undo what a running commit makes durable.
  enum class Mood { busy, calm, duel };
  enum class Kind { read, write, zero, compare, flush };
  struct Request {
    Kind kind = Kind::read;
    Extent extent;
    ShadowDisk::Number number = ShadowDisk::kZero;
    Bytes expected;  // Of a COMPARE AND WRITE.
    Zeroing how = Zeroing::keep;
    bool fua = false;
    bool again = false;  // The ring is executed again after a kill.
  };
  struct Life {
    std::unique_ptr<CloneRig> rig;
    unsigned clients = 0;
    bool over = false;      // The process is dead; nobody listens.
    bool stopping = false;  // Clients end after the request they have.
    std::list<Request> pending;
  };
  struct Traits {
    bool outages, bad_blocks, device_faults, commit_faults;
  };

  std::uint64_t roll(std::uint64_t most) { return random_() % (most + 1); }
  bool chance(unsigned percent) { return random_() % 100 < percent; }
  CloneRig& rig() { return *lives_.back()->rig; }
  void complain(std::string text);

  void make_disk();
  void make_holes();

  Task<> client(Life& life);
  Task<> again(Life& life, Request request);
  Task<> serve(Life& life, Request request);
  Task<> serve_read(Life& life, const Request& request);
  Task<> serve_change(Life& life, const Request& request);
  Task<> serve_flush(Life& life);
  Task<Result<>> execute(CloneRig& rig, const Request& request, const ShadowDisk::Change& change);
  Task<> clear(Life& life);
  Request random_request();
  Extent random_extent();

  bool aligned(Extent extent) const;
  bool meets_bad_block(Extent extent) const;
  // Whether such a request may fail so; complains when not. True: it may have had an effect.
  bool judge_failure(const Request& request, const Error& error, Time begun,
                     Scheduler::Duration took);
  void judge_compare(const Request& request, const ShadowDisk::Change& change,
                     const Result<>& outcome);

  void live();
  void choose_mood();
  void make_trouble();
  void make_origin_trouble();
  void slow_down_devices();
  void add_fault();
  void end_trouble();
  void drain();
  void kill();
  void cut_power();
  void reopen();
  void hydrate_and_compare();
  void begin_life(std::unique_ptr<CloneRig> rig);
  void know_whether_failed();
  Bytes look();
  void check_marks();
  void apply_options();

  Counts& counts_;
  std::uint64_t seed_;
  std::mt19937_64 random_;
  RigConfig config_;
  Traits traits_{};
  std::unique_ptr<ShadowDisk> shadow_;
  std::vector<std::unique_ptr<Life>> lives_;
  // Requests that began before may fail because nothing is durable any more.
  Time commit_trouble_ = 0;
  // Changes that began before may be refused: the clone was opened with needs_check.
  Time read_only_until_ = 0;
  std::uint64_t hot_block_ = 0;
  Mood mood_ = Mood::busy;
  bool promised_ = false;  // A FLUSH or FUA was just answered.
  std::set<std::uint64_t> bad_ever_;
  std::string wrong_;
  bool stuck_ = false;
};

}  // namespace clonedev
